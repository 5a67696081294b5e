"""GPTQ: round a weight column by column, and let the columns not yet rounded make up for the error.

For rows w of a layer with inputs x the error is ‖(w − q) Xᵀ‖² = (w − q) H (w − q)ᵀ, H = Σ x xᵀ over the
inputs that the quantized layer really reads. With U the upper Cholesky factor of H⁻¹, for i = 1 … K::

    q_i = Q(w_i),   e = (w_i − q_i) / U_ii,   w_j ← w_j − e U_ij   for j > i

Columns are taken in descending order of H_ii (``act_order``). H gets ``damp · mean(H_ii)`` on its diagonal.
Scales are fixed before the first column, so that groups stay neighbours whatever the order. Rows do not
depend on each other: each is rounded with its scales times every factor of ``factors``, and takes the factor
with the least error, for the best scale for rounding to the nearest code is not the best here.

Source: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", algorithm 1.
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from quant.methods.registry import MethodNote, MethodOptions, WeightsOnly, register_method
from quant.qparams import QParams
from quant.tuning.eligible import why_not
from quant.tuning.gram import input_gram, quadratic_error, spread
from quant.tuning.layer import Layer

__all__ = ["Gptq", "GptqOptions", "gptq_round"]

NAME = "gptq"


class GptqOptions(MethodOptions):
    """Options.

    Attributes:
        damp: what is added to the diagonal of H, as a share of its mean.
        factors: of a row's scales, tried besides 1; only where no other row shares them.
        act_order: take the columns with the largest inputs first.
        block: columns updated at once; only speed depends on it.
        up_to_bits: weights of more bits are left alone.
    """

    damp: float = Field(default=0.01, gt=0.0)
    factors: tuple[Annotated[float, Field(gt=0.0, allow_inf_nan=False)], ...] = ()
    act_order: bool = True
    block: int = Field(default=64, ge=1)
    up_to_bits: int = Field(default=6, ge=2, le=8)


@register_method(NAME, GptqOptions)
class Gptq(WeightsOnly):
    """The method, see the module's text."""

    def __init__(self, options: GptqOptions) -> None:
        self._options = options

    def tune_layer(self, layer: Layer) -> MethodNote:
        """Round the layer's weight."""
        reason = why_not(layer, self._options.up_to_bits)
        if reason is not None:
            return MethodNote(NAME, layer.name, False, reason)
        weight, grid = layer.weight, layer.grid
        hessian = input_gram(layer)
        before = quadratic_error(layer, weight - layer.quantized_weight, hessian)
        rounded, grid = gptq_round(weight, hessian, grid, self._options)
        after = quadratic_error(layer, weight - rounded, hessian)
        if not after < before:
            return MethodNote(NAME, layer.name, False, "rounding to the nearest code is as good")
        layer.set_weight(rounded, grid)
        return MethodNote(NAME, layer.name, True, f"output error {after / before:.3f} of plain rounding's")


@torch.no_grad()
def gptq_round(
    weight: Tensor, hessian: Tensor, grid: QParams, options: GptqOptions
) -> tuple[Tensor, QParams]:
    """The weight on its grid, and the grid.

    Args:
        weight: [O, K], or [O, I / groups, kh, kw].
        hessian: [groups, K, K]; rows and columns that are zero belong to inputs that are always zero.
        grid: scale and zero point of the weight.
        options: damping, order and factors.

    Returns:
        Dequantized codes, float32, the shape of ``weight``; and ``grid`` with the scales chosen.
    """
    factors = torch.tensor([1.0, *(options.factors if _has_own_scales(grid) else ())], dtype=torch.float64)
    groups, depth = hessian.shape[:2]
    shape = (groups, -1, depth)
    scales, zeros = (spread(t, weight, grid).double().reshape(shape) for t in (grid.scale, grid.zero_point))
    result, chosen = torch.empty_like(scales), []
    for group, rows in enumerate(weight.double().reshape(shape)):
        upper, order = _factor(hessian[group], options)
        rows[:, hessian[group].diagonal() == 0] = 0.0
        tried = (factors[:, None, None] * scales[group]).float().double()  # as they are stored
        rounded = torch.empty_like(tried)
        w, zero = (t.expand_as(tried).flatten(0, 1)[:, order] for t in (rows, zeros[group]))
        rounded.flatten(0, 1)[:, order] = _round(
            w, tried.flatten(0, 1)[:, order], zero, upper, grid, options.block
        )
        error = rows - rounded
        best = ((error @ hessian[group]) * error).sum(-1).argmin(0)  # [rows]
        result[group] = rounded[best, torch.arange(len(best))]
        chosen.append(factors[best])
    if len(factors) > 1:
        factor = torch.cat(chosen).reshape(-1, *[1] * (grid.scale.ndim - 1))
        grid = replace(grid, scale=(grid.scale * factor).float())
    return result.reshape(weight.shape).float(), grid


def _has_own_scales(grid: QParams) -> bool:
    """Whether every row has scales that no other row shares."""
    return grid.axis == 0 or grid.group_size is not None


def _factor(hessian: Tensor, options: GptqOptions) -> tuple[Tensor, Tensor]:
    """U [K, K], and the order of the columns it is for."""
    h = hessian.clone()
    h.diagonal()[h.diagonal() == 0] = 1.0
    h.diagonal().add_(options.damp * float(h.diagonal().mean()))
    order = torch.argsort(-h.diagonal(), stable=True) if options.act_order else torch.arange(len(h))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h[order][:, order]))
    return torch.linalg.cholesky(inverse, upper=True), order


def _round(w: Tensor, scale: Tensor, zero: Tensor, upper: Tensor, grid: QParams, block: int) -> Tensor:
    """Dequantized codes of rows [N, K] whose columns are in order; ``w`` is used up."""
    rounded = torch.empty_like(w)
    for start in range(0, w.shape[1], block):
        stop = min(start + block, w.shape[1])
        errors = torch.empty_like(w[:, start:stop])  # e
        for i in range(start, stop):
            codes = torch.round(w[:, i] / scale[:, i] + zero[:, i]).clamp(grid.qmin, grid.qmax)
            rounded[:, i] = (codes - zero[:, i]) * scale[:, i]
            error = (w[:, i] - rounded[:, i]) / upper[i, i]
            w[:, i:stop] -= error[:, None] * upper[i, i:stop]
            errors[:, i - start] = error
        w[:, stop:] -= errors @ upper[start:stop, stop:]
    return rounded
