"""LayerNorm on integers.

With s1 the smallest channel scale, s_c = s1 2^alpha_c, C channels and output scale s_out::

    X_c = round(x_c / s_c) 2^alpha_c                        sums S = Σ X, T = Σ X²
    R = sqrt(C T − S² + E),   E = round(eps C² / s1²)       (mean = s1 S / C, sigma = s1 R / C)
    A = C gamma / (s_out R)                                 (= s1 gamma / (sigma s_out))
    N = clamp(7 − floor(log2 |A|), 0, 31)                   M = clamp(floor(|A| 2^N), 0, 255)
    B = round((beta / s_out − S / R · gamma / s_out) 2^N)
    y_q = (sign(A) M X + B + 2^(N−1)) >> N                  (y = s_out y_q)

X, S, T, C T − S² + E, M, N, B and y_q are int64. Float64: R, one per row; A and B's bracket, one per value;
and the constants C gamma / s_out, gamma / s_out and beta / s_out, computed once. Each comes from one IEEE 754
operation at a time (square root, division, multiplication, subtraction: correctly rounded), N from
comparisons, and multiplying by 2^N is exact. So every runtime with IEEE doubles gives the same integers.

E, at least 1, is what the original leaves out: without it a constant row divides by 0.

Source: FQ-ViT (Lin et al. 2022, section 3.2 and its integer LayerNorm).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quant.errors import BadInput

__all__ = ["MULTIPLIER_BITS", "LayerNormConstants", "integer_layer_norm", "layer_norm_constants"]

MULTIPLIER_BITS = 8
"""Width of M in the original."""
LONGEST_SHIFT = 31
LARGEST_EXTRA = 2.0**52


@dataclass(frozen=True, eq=False)
class LayerNormConstants:
    """What is fixed once the formats are.

    Attributes:
        scale: s_c, float32 [C].
        factor: 2^alpha_c, int64 [C].
        gain: C gamma / s_out, float64 [C].
        slope: gamma / s_out, float64 [C].
        offset: beta / s_out, float64 [C].
        extra: E, int64 [].
        ceiling: 2^bits of M, float64 [].
        output_scale: s_out, float32 [].
    """

    scale: Tensor
    factor: Tensor
    gain: Tensor
    slope: Tensor
    offset: Tensor
    extra: Tensor
    ceiling: Tensor
    output_scale: Tensor


def layer_norm_constants(
    scale: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    output_scale: Tensor,
    multiplier_bits: int = MULTIPLIER_BITS,
    name: str = "LayerNorm",
) -> LayerNormConstants:
    """Prepare a LayerNorm.

    Args:
        scale: s_c, float32, [C] or [] for one scale; ratios must be powers of two.
        gamma: [C].
        beta: [C].
        eps: added to the variance.
        output_scale: s_out, float32 [].
        multiplier_bits: width of M, 8 in the original.
        name: the layer's name, for messages.

    Raises:
        BadInput: the scales are not powers of two apart.
    """
    scale = scale.detach().float().expand_as(gamma).contiguous()
    smallest = scale.min()
    factor = torch.round(scale.double() / smallest.double())
    if bool((torch.frexp(factor).mantissa != 0.5).any()) or bool((factor.float() * smallest != scale).any()):
        raise BadInput(
            f"'{name}': the scales of what an integer LayerNorm reads must differ by powers of two; quantize "
            "its input per tensor, or per channel with observer 'power_of_two'"
        )
    channels, s_out = len(gamma), output_scale.detach().double()
    slope = gamma.detach().double() / s_out
    extra = torch.round(torch.tensor(eps).double() * channels**2 / smallest.double() ** 2)
    return LayerNormConstants(
        scale=scale,
        factor=factor.to(torch.int64),
        gain=slope * channels,
        slope=slope,
        offset=beta.detach().double() / s_out,
        extra=extra.clamp(1.0, LARGEST_EXTRA).to(torch.int64),
        ceiling=torch.tensor(2.0**multiplier_bits, dtype=torch.float64),
        output_scale=output_scale.detach().float(),
    )


def integer_layer_norm(x: Tensor, constants: LayerNormConstants) -> Tensor:
    """Normalize the last axis.

    Args:
        x: [..., C], float32, already quantized: multiples of s_c.
        constants: from :func:`layer_norm_constants`.

    Returns:
        y_q, int64 [..., C], not clipped: the quantizer behind it does that.
    """
    codes = torch.round(x / constants.scale).to(torch.int64) * constants.factor  # X
    total = codes.sum(-1, keepdim=True)  # S
    spread = codes.shape[-1] * (codes * codes).sum(-1, keepdim=True) - total * total + constants.extra
    root = spread.double().sqrt()  # R
    gain = constants.gain / root  # A
    multiplier, power = _dyadic(gain.abs(), constants.ceiling)
    bracket = constants.offset - total.double() / root * constants.slope
    offset = torch.round(bracket * power).to(torch.int64)  # B
    divisor = power.to(torch.int64)  # 2^N
    value = torch.sign(gain).to(torch.int64) * multiplier * codes + offset
    return torch.div(value + divisor // 2, divisor, rounding_mode="floor")


def _dyadic(gain: Tensor, ceiling: Tensor) -> tuple[Tensor, Tensor]:
    """M, int64, and 2^N, float64: the largest N in 0..31 that keeps |A| 2^N below 2^bits."""
    power = torch.ones_like(gain)
    for bit in (16, 8, 4, 2, 1):
        wider = gain * 2.0**bit
        fits = wider < ceiling
        gain = torch.where(fits, wider, gain)
        power = torch.where(fits, power * 2.0**bit, power)
    return torch.minimum(torch.floor(gain), ceiling - 1).to(torch.int64), power
