"""Keep u8 × s8 products within 16 bits on CPUs without VNNI.

AVX2 and AVX-512 without VNNI multiply with VPMADDUBSW: it adds the products of two neighbouring bytes and
saturates the sum at 32,767. With activation codes up to 255 and weights up to 127 the sum reaches 64,770. Seven-bit
weights rule that out for every input, at the price of one bit everywhere. Most rows never come near: their
large weights do not stand side by side, or meet small activations. So the bound is computed for the real
codes, and only the rows beyond it get a larger scale.
"""

from enum import Enum

import torch
from torch import Tensor

from quant.qparams import QParams

__all__ = ["LIMIT", "MARGIN", "Pairing", "pair_safe_scale"]

LIMIT = 32767
MARGIN = 1.25
"""How much further than the calibrated range, seen from the zero point, a channel's codes may reach."""


class Pairing(Enum):
    """Which weights of a row meet in one sum."""

    NEIGHBOURS = "neighbours"
    """Columns 2i and 2i+1, as in a matrix product."""
    ANY = "any"
    """Any two, for kernels whose order is not known (convolutions)."""


def pair_safe_scale(
    weight: Tensor, qparams: QParams, low: Tensor, high: Tensor, activation: QParams, pairing: Pairing
) -> Tensor:
    """Scales for which no pair of products overflows.

    With codes a_k in [A_k, B_k] and weight codes w_k the largest sum of a pair is
    Σ max(A_k w_k, B_k w_k), the smallest Σ min(…); a row whose bound, plus half a code of rounding per weight,
    exceeds 32,767 gets its scale multiplied by bound / 32,767.

    Args:
        weight: [O, I, ...], float.
        qparams: per output channel, signed, symmetric.
        low: [I] smallest activation of each input channel at calibration.
        high: [I] largest one.
        activation: per tensor, unsigned codes; for signed ones (re-encoded at run time) 128 is added.
        pairing: which weights meet.

    Returns:
        [O], at least the scales given.
    """
    offset = 128 if activation.qmin < 0 else 0
    scale, zero = activation.scale.double(), activation.zero_point.double()
    least = (low.double() / scale * MARGIN + zero).floor().clamp(activation.qmin, activation.qmax) + offset
    most = (high.double() / scale * MARGIN + zero).ceil().clamp(activation.qmin, activation.qmax) + offset
    rows = weight.detach().double() / qparams.scale.double().reshape(-1, *[1] * (weight.ndim - 1))
    inputs = weight.shape[1]  # of a grouped convolution: fewer than the activation's channels
    if least.numel() != inputs:
        least, most = least.min().expand(inputs), most.max().expand(inputs)
    shape = (1, inputs, *[1] * (weight.ndim - 2))
    at_least, at_most = rows * least.reshape(shape), rows * most.reshape(shape)  # [O, I, ...]
    largest = torch.maximum(at_least, at_most).flatten(1)  # [O, K]
    smallest = torch.minimum(at_least, at_most).flatten(1)
    bound = torch.maximum(_pair_sum(largest, pairing), _pair_sum(-smallest, pairing))  # [O]
    slack = 0.5 * 2 * float(most.max())
    factor = ((bound + slack) / LIMIT).clamp(min=1.0)
    return (qparams.scale.double() * factor).float()


def _pair_sum(values: Tensor, pairing: Pairing) -> Tensor:
    """The largest sum of a pair in each row [O, K]; a lone last column counts alone."""
    if values.shape[1] % 2:
        values = torch.nn.functional.pad(values, (0, 1))
    if pairing is Pairing.NEIGHBOURS:
        return values.reshape(len(values), -1, 2).sum(-1).amax(1)
    return values.topk(2, dim=1).values.sum(1)
