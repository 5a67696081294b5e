"""Keep u8 × s8 products within 16 bits on CPUs without VNNI.

AVX2 and AVX-512 without VNNI multiply with VPMADDUBSW: it adds the products of two neighbouring bytes and
saturates the sum at 32,767. With activation codes up to 255 and weights up to 127 the sum reaches 64,770.
Seven-bit weights rule that out for every input, at the price of one bit everywhere. Most rows never come
near: their large weights do not stand side by side, or meet small activations. So the bound is computed for
the real codes, and only the rows beyond it get a larger scale.
"""

from enum import Enum

import torch
from torch import Tensor
from torch.nn.functional import pad

from quant.kernels import quantize_codes
from quant.qparams import QParams

__all__ = ["LIMIT", "MARGIN", "Pairing", "pair_safe_scale"]

LIMIT = 32767
MARGIN = 1.25
"""How much further than the calibrated range, seen from the zero point, a channel's codes may reach."""


class Pairing(Enum):
    """The order of a row's weights, of which numbers 2i and 2i+1 meet in one sum.

    It is that of ONNX Runtime's kernels; ``tests/deploy/test_saturation.py`` shows it on them.
    """

    MATMUL = "matmul"
    """As stored: [I], or [I, kh, kw] for a convolution that runs as a matrix product of patches."""
    CONV = "conv"
    """Channels innermost, [kh, kw, I]."""


def pair_safe_scale(
    weight: Tensor, qparams: QParams, low: Tensor, high: Tensor, activation: QParams, pairing: Pairing
) -> Tensor:
    """Scales for which no pair of products overflows.

    With activation codes a_k in [A_k, B_k] and weight codes w_k the largest sum of a pair is
    Σ max(A_k w_k, B_k w_k), the smallest Σ min(…). A row in which one exceeds 32,767 in magnitude gets the
    larger scale with which its unrounded weights w_k / s stay at 32,767 − max B: rounding moves each of the
    two weights by at most half a code, so the sum by at most max B.

    Args:
        weight: [O, I / groups, ...], float.
        qparams: per output channel (axis 0) or per tensor, signed, symmetric.
        low: [I] smallest activation of each input channel at calibration.
        high: [I] largest one.
        activation: per tensor, unsigned codes; for signed ones (re-encoded at run time) 128 is added.
        pairing: which weights meet.

    Returns:
        The shape of ``qparams.scale``, at least the scales given, equal where no sum can overflow.
    """
    least, most = _code_range(low, high, activation)
    inputs = weight.shape[1]
    # Output channel o of a grouped convolution reads the input channels of its group.
    outputs_per_group = len(weight) * inputs // least.numel()
    shape = (len(weight), inputs, *[1] * (weight.ndim - 2))
    least, most = (
        codes.reshape(-1, inputs).repeat_interleave(outputs_per_group, dim=0).reshape(shape)
        for codes in (least, most)
    )

    def bound(rows: Tensor) -> Tensor:
        at_least, at_most = rows * least, rows * most  # [O, I, ...]
        largest = _pair_sums(torch.maximum(at_least, at_most), pairing).amax(1)
        smallest = _pair_sums(torch.minimum(at_least, at_most), pairing).amin(1)
        return torch.maximum(largest, -smallest)  # [O]

    weight = weight.detach()
    scale = qparams.scale.double()
    rows = weight.double() / scale.reshape(-1, *[1] * (weight.ndim - 1))
    factor = (bound(rows) / (LIMIT - float(most.max()))).clamp(min=1.0)
    factor = torch.where(bound(quantize_codes(weight, qparams).double()) > LIMIT, factor, 1.0)
    return (scale * (factor if scale.ndim else factor.max())).float()


def _code_range(low: Tensor, high: Tensor, activation: QParams) -> tuple[Tensor, Tensor]:
    """The codes [A_k, B_k] that each channel can take, zero (padding) and the margin included."""
    scale, zero = activation.scale.double(), activation.zero_point.double()
    offset = 128 if activation.qmin < 0 else 0
    reach = low.double().clamp(max=0.0), high.double().clamp(min=0.0)
    least, most = (
        (bound * MARGIN / scale + zero).round().clamp(activation.qmin, activation.qmax) + offset
        for bound in reach
    )
    return least, most


def _pair_sums(values: Tensor, pairing: Pairing) -> Tensor:
    """The sums of the pairs in each row, [O, pairs]; a lone last value counts alone."""
    row = (values.movedim(1, -1) if pairing is Pairing.CONV else values).flatten(1)
    row = pad(row, (0, 1)) if row.shape[1] % 2 else row
    return row[:, ::2] + row[:, 1::2]
