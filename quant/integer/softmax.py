"""Log-Int-Softmax: softmax on integers, with powers of two as its result.

With S the scale of the scores (softmax is blind to their zero point), x the codes of a row::

    x = x − max x ≤ 0
    i-exp:  x0 = floor(−0.6931 / S)
            b = floor(0.96963238 / 0.35815147 / S),  c = floor(1 / 0.35815147 / S²)
            x = max(x, n x0),  q = floor(x / x0),  r = x − x0 q
            e = max(0, (r + b) r + c) 2^(n−q)
    u = round(Σ e / e)          (1 / probability)
    k = floor(log2 u), one more where u − 2^k ≥ 2^(k−1)
    P = 2^−k, and 0 where k ≥ 2^bits
    P @ V = Σ_j V_j >> k_j

All are int64; x0, b and c are computed once, in float64 from S. n is 30, and less where c is so large that
Σ e could leave int64: then S is so small that 8-bit codes never bring q near n, and a common factor of all e
changes nothing. The sums of P @ V keep all bits that the shifts push out (a fixed point at 2^-max k).

Source: FQ-ViT (Lin et al. 2022, section 3.3); i-exp from I-BERT (Kim et al. 2021, algorithm 2).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from quant.errors import BadInput

__all__ = ["SoftmaxConstants", "log_int_softmax", "powers_of_two", "shift_matmul", "softmax_constants"]

LN2 = 0.6931
SQUARE, LINEAR = 0.35815147, 0.96963238
LONGEST_SHIFT = 30
_SUM_BITS = 46
"""c 2^n stays below this power of two, so that 2^16 of them can be added in int64."""
_FINEST = 2.0**-22
"""Below this step all 8-bit scores are equal to 6e-5, and c would leave int64."""
HALVINGS = 62
"""No u of int64 takes more."""


@dataclass(frozen=True)
class SoftmaxConstants:
    """What is fixed once the scale of the scores is.

    Attributes:
        scale: S, a float32 number.
        ln2: x0, −ln 2 in steps of S.
        linear: b.
        constant: c.
        shift: n.
        bits: width of the codes k.
    """

    scale: float
    ln2: int
    linear: int
    constant: int
    shift: int
    bits: int


def softmax_constants(scale: float, bits: int, name: str = "softmax") -> SoftmaxConstants:
    """Prepare a softmax.

    Args:
        scale: S, of the quantized scores.
        bits: width of the codes k, 4 or 8 in the original.
        name: the layer's name, for messages.

    Raises:
        BadInput: the scores' step is so coarse that i-exp cannot tell one from the next.
    """
    if scale > LN2:
        raise BadInput(
            f"'{name}': the attention scores have a step of {scale:.3g}, and i-exp needs at most {LN2}; "
            "quantize them to more bits, or clip their range with observer 'percentile'"
        )
    step = max(scale, _FINEST)
    constant = math.floor(1.0 / SQUARE / step**2)
    return SoftmaxConstants(
        scale=scale,
        ln2=math.floor(-LN2 / step),
        linear=math.floor(LINEAR / SQUARE / step),
        constant=constant,
        shift=min(LONGEST_SHIFT, max(_SUM_BITS - constant.bit_length(), 0)),
        bits=bits,
    )


def log_int_softmax(x: Tensor, constants: SoftmaxConstants) -> Tensor:
    """The codes k of the softmax over the last axis.

    Args:
        x: [..., n], float32 scores, already quantized: multiples of S.
        constants: from :func:`softmax_constants`.

    Returns:
        k, int64 [..., n], from 0; where k ≥ 2^bits the probability is 0.
    """
    codes = torch.round(x / constants.scale).to(torch.int64)
    exponentials = _integer_exp(codes - codes.amax(-1, keepdim=True), constants)
    total = exponentials.sum(-1, keepdim=True)
    divisor = exponentials.clamp(min=1)
    inverse = (total + divisor // 2) // divisor  # u
    return torch.where(exponentials > 0, _log2_rounded(inverse), HALVINGS + 1)


def powers_of_two(codes: Tensor, bits: int) -> Tensor:
    """2^−k, and 0 where k ≥ 2^bits; float32, exact."""
    last = min(1 << bits, HALVINGS + 1)
    table = torch.ldexp(torch.ones(last + 1), -torch.arange(last + 1))
    table[last] = 0.0
    return table.to(codes.device)[codes.clamp(max=last)]


def shift_matmul(powers: Tensor, values: Tensor) -> Tensor:
    """Σ_j V_j >> k_j, exactly.

    Products by powers of two are shifts. They and their sums are whole multiples of 2^−max k, fewer than 2^53
    of them (k ≤ 30 + log2 n + 1, |V| ≤ 255, Σ 2^−k < 1.5, n ≤ 2^12 keys), which float64 adds without any
    rounding, in whatever order.

    Args:
        powers: [..., m, n], float32, from :func:`powers_of_two`.
        values: [..., n, d], int64 codes of V without their zero point.

    Returns:
        float64 [..., m, d].
    """
    return torch.matmul(powers.double(), values.double())


def _integer_exp(x: Tensor, constants: SoftmaxConstants) -> Tensor:
    """i-exp of x ≤ 0, int64; all by the same factor too large."""
    x = x.clamp(min=constants.shift * constants.ln2)
    quotient = torch.div(x, constants.ln2, rounding_mode="floor")  # q, from 0 to n
    rest = x - constants.ln2 * quotient  # r, in (x0, 0]
    polynomial = (rest + constants.linear) * rest + constants.constant
    return torch.bitwise_left_shift(polynomial.clamp(min=0), constants.shift - quotient)


def _log2_rounded(u: Tensor) -> Tensor:
    """For u ≥ 1 the k: how many j ≥ 0 have 2 u ≥ 3 · 2^j.

    floor(log2 u) is the exponent of the float64 nearest to u. Where that is the next power of two (u close
    below it, beyond 2^53), k is its exponent all the same.
    """
    log = torch.frexp(u.double()).exponent.to(torch.int64) - 1
    power = torch.bitwise_left_shift(torch.ones_like(u), log)
    return log + (2 * (u - power) >= power)
