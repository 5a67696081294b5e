"""Exact conversion of signed integer products to unsigned arithmetic.

Source: "Energy awareness in low precision neural networks", arXiv 2202.02783. A signed accumulator flips half
of its bits whenever a product changes its sign (:mod:`quant.energy.toggles`); two unsigned ones do not. The
weights are split, W = W⁺ − W⁻ with W⁺ = max(W, 0), W⁻ = max(−W, 0), whose non-zeros are disjoint: there are
as many useful products as before, and one subtraction more per output.

The paper needs inputs >= 0. Asymmetric unsigned codes, x = s_x (q − z), serve any input: the zero point's
part is a constant that joins the bias.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quant.errors import BadInput, Unsupported

__all__ = ["UnsignedLinear", "run_unsigned", "to_unsigned", "unsigned_product"]

_LIMIT = 2**32 - 1
_INT32 = 2**31 - 1


@dataclass(frozen=True, eq=False)
class UnsignedLinear:
    """A linear layer in two unsigned halves.

    ``y = scale · ((W⁺ q + b⁺) − (W⁻ q + b⁻))``.

    Attributes:
        positive: W⁺, uint8 [O, I].
        negative: W⁻, uint8 [O, I].
        positive_bias: b⁺, int64 [O], >= 0.
        negative_bias: b⁻, int64 [O], >= 0; of each pair of biases one is 0.
        scale: s_x · s_w, float32 [O] or [].
        highest: the highest code of the input that neither sum overflows at.
    """

    positive: Tensor
    negative: Tensor
    positive_bias: Tensor
    negative_bias: Tensor
    scale: Tensor
    highest: int


def to_unsigned(
    codes: Tensor,
    zero_point: int,
    input_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    highest: int = 255,
) -> UnsignedLinear:
    """Split a quantized linear layer.

    The signed layer it equals is ``y = s_x s_w (Σ_i w_i (q_i − z) + B)`` with the int32 bias
    ``B = round(b / (s_x s_w))``; here ``b⁺ − b⁻ = B − z Σ_i w_i``.

    Args:
        codes: the weight's codes, integers of zero point 0 within [-255, 255], [O, I].
        zero_point: z of the input.
        input_scale: s_x, [].
        weight_scale: s_w, [] or [O].
        bias: b, [O].
        highest: the highest code an input can have.

    Raises:
        BadInput: shapes or codes are not as described.
        Unsupported: a sum could exceed 32 unsigned bits at inputs of ``highest``.
    """
    if codes.ndim != 2 or codes.is_floating_point() or int(codes.abs().max()) > 255:
        raise BadInput(
            f"weight codes must be integers within [-255, 255] of shape [O, I], got {codes.dtype} "
            f"{list(codes.shape)}"
        )
    if not 0 <= zero_point <= highest:
        raise BadInput(f"the input's zero point must be an unsigned code, 0 to {highest}, got {zero_point}")
    if input_scale.ndim or weight_scale.shape not in ((), (len(codes),)):
        raise BadInput(
            f"scales must be one for the input and one or {len(codes)} for the weight, got "
            f"{list(input_scale.shape)} and {list(weight_scale.shape)}"
        )
    wide = codes.to(torch.int64)
    scale = input_scale.double() * weight_scale.double()
    offset = torch.zeros(len(codes), dtype=torch.int64)
    if bias is not None:
        offset = torch.round(bias.double() / scale).clamp(-_INT32 - 1, _INT32).to(torch.int64)
    offset = offset - zero_point * wide.sum(1)
    positive, negative = wide.clamp(min=0), (-wide).clamp(min=0)
    pieces = UnsignedLinear(
        positive=positive.to(torch.uint8),
        negative=negative.to(torch.uint8),
        positive_bias=offset.clamp(min=0),
        negative_bias=(-offset).clamp(min=0),
        scale=scale.float(),
        highest=highest,
    )
    largest = max(
        int((half.sum(1) * highest + addend).max())
        for half, addend in ((positive, pieces.positive_bias), (negative, pieces.negative_bias))
    )
    if largest > _LIMIT:
        raise Unsupported(f"a sum of this layer can reach {largest}, beyond 32 unsigned bits")
    return pieces


def run_unsigned(layer: UnsignedLinear, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Execute a split layer with uint32 accumulations.

    Args:
        layer: from :func:`to_unsigned`.
        codes: the input's unsigned codes q, [..., I].

    Returns:
        The integer result, int64, and the output, float32; both [..., O].

    Raises:
        BadInput: a code is negative or beyond what the layer was made for.
    """
    _require_unsigned(codes, layer.highest)
    q = _uint32(codes)
    positive = q @ _uint32(layer.positive).T + _uint32(layer.positive_bias)
    negative = q @ _uint32(layer.negative).T + _uint32(layer.negative_bias)
    result = _difference(positive, negative)
    return result, result.float() * layer.scale


def unsigned_product(a: Tensor, b: Tensor, a_zero_point: int, b_zero_point: int) -> Tensor:
    """``Σ_k (a_ik − z_a)(b_kj − z_b)`` from unsigned sums, for attention's products.

    The rank-1 corrections go to the side that their sign asks for:
    ``(Σ_k a_ik b_kj + K z_a z_b) − (z_b Σ_k a_ik + z_a Σ_k b_kj)``.

    Args:
        a: unsigned codes of at most 8 bits, [..., M, K].
        b: likewise, [..., K, N].
        a_zero_point: z_a.
        b_zero_point: z_b.

    Returns:
        The signed integers, int64, [..., M, N].

    Raises:
        BadInput: a code or zero point is not within [0, 255].
        Unsupported: K is so large that a sum could exceed 32 unsigned bits.
    """
    for codes in (a, b, torch.tensor([a_zero_point, b_zero_point])):
        _require_unsigned(codes, 255)
    length = a.shape[-1]
    if 2 * length * 255**2 > _LIMIT:
        raise Unsupported(f"sums over {length} products of 8 bits can exceed 32 unsigned bits")
    left, right = _uint32(a), _uint32(b)
    z_a, z_b = np.uint32(a_zero_point), np.uint32(b_zero_point)
    rows = left.sum(-1, dtype=np.uint32)[..., :, None]
    columns = right.sum(-2, dtype=np.uint32)[..., None, :]
    return _difference(left @ right + np.uint32(length) * z_a * z_b, z_b * rows + z_a * columns)


def _require_unsigned(codes: Tensor, highest: int) -> None:
    if codes.is_floating_point() or int(codes.min()) < 0 or int(codes.max()) > highest:
        raise BadInput(f"codes must be integers within [0, {highest}]")


def _uint32(values: Tensor) -> NDArray[np.uint32]:
    return values.detach().cpu().numpy().astype(np.uint32)


def _difference(positive: NDArray[np.uint32], negative: NDArray[np.uint32]) -> Tensor:
    result: NDArray[Any] = positive.astype(np.int64) - negative.astype(np.int64)
    return torch.from_numpy(result)
