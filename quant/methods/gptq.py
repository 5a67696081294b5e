"""GPTQ: round a weight column by column, and let the columns not yet rounded make up for the error.

For rows w of a layer with inputs x the error is ‖(w − q) Xᵀ‖² = (w − q) H (w − q)ᵀ, H = Σ x xᵀ over the
inputs that the quantized layer really reads. With U the upper Cholesky factor of H⁻¹, for i = 1 … K::

    q_i = Q(w_i),   e = (w_i − q_i) / U_ii,   w_j ← w_j − e U_ij   for j > i

Columns are taken in descending order of H_ii (``act_order``). H gets ``damp · mean(H_ii)`` on its diagonal.
Scales are fixed before the first column, so that groups stay neighbours whatever the order.

Source: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", algorithm 1.
"""

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
        act_order: take the columns with the largest inputs first.
        block: columns updated at once; only speed depends on it.
        up_to_bits: weights of more bits are left alone.
    """

    damp: float = Field(default=0.01, gt=0.0)
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
        rounded = gptq_round(weight, hessian, grid, self._options)
        after = quadratic_error(layer, weight - rounded, hessian)
        if not after < before:
            return MethodNote(NAME, layer.name, False, "rounding to the nearest code is as good")
        layer.set_weight(rounded, grid)
        return MethodNote(NAME, layer.name, True, f"output error {after / before:.3f} of plain rounding's")


@torch.no_grad()
def gptq_round(weight: Tensor, hessian: Tensor, grid: QParams, options: GptqOptions) -> Tensor:
    """The weight on its grid.

    Args:
        weight: [O, K], or [O, I / groups, kh, kw].
        hessian: [groups, K, K]; rows and columns that are zero belong to inputs that are always zero.
        grid: scale and zero point of the weight.
        options: damping and order.

    Returns:
        Dequantized codes, float32, the shape of ``weight``.
    """
    groups, depth = hessian.shape[:2]
    shape = (groups, -1, depth)
    scales, zeros = (spread(t, weight, grid).double().reshape(shape) for t in (grid.scale, grid.zero_point))
    result = torch.empty_like(scales)
    for group, rows in enumerate(weight.double().reshape(shape)):
        h = hessian[group].clone()
        dead = h.diagonal() == 0
        h.diagonal()[dead] = 1.0
        rows[:, dead] = 0.0
        h.diagonal().add_(options.damp * float(h.diagonal().mean()))
        order = torch.argsort(-h.diagonal(), stable=True) if options.act_order else torch.arange(depth)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(h[order][:, order]))
        upper = torch.linalg.cholesky(inverse, upper=True)
        w, scale, zero = (t[:, order] for t in (rows, scales[group], zeros[group]))
        rounded = torch.empty_like(w)
        for start in range(0, depth, options.block):
            stop = min(start + options.block, depth)
            errors = torch.empty_like(w[:, start:stop])  # e
            for i in range(start, stop):
                codes = torch.round(w[:, i] / scale[:, i] + zero[:, i]).clamp(grid.qmin, grid.qmax)
                rounded[:, i] = (codes - zero[:, i]) * scale[:, i]
                error = (w[:, i] - rounded[:, i]) / upper[i, i]
                w[:, i:stop] -= error[:, None] * upper[i, i:stop]
                errors[:, i - start] = error
            w[:, stop:] -= errors @ upper[start:stop, stop:]
        result[group][:, order] = rounded
    return result.reshape(weight.shape).float()
