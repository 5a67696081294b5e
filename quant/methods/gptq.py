"""GPTQ: round a weight column by column, and let the columns not yet rounded make up for the error.

For rows w of a layer with inputs x the error is ‖(w − q) Xᵀ‖² = (w − q) H (w − q)ᵀ, H = Σ x xᵀ over the inputs
that the quantized layer really reads. With U the upper Cholesky factor of H⁻¹, for i = 1 … K::

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
from quant.tuning.layer import Layer

__all__ = ["Gptq", "GptqOptions", "gptq_round", "input_gram", "quadratic_error", "spread"]

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
        bits = layer.weight_site.spec.bits
        if bits > self._options.up_to_bits:
            text = f"its {bits} bits are more than up_to_bits {self._options.up_to_bits}"
            return MethodNote(NAME, layer.name, False, text)
        weight, grid = layer.weight, layer.grid
        hessian = input_gram(layer)
        before = quadratic_error(layer, weight - layer.quantized_weight, hessian)
        rounded = gptq_round(weight, hessian, grid, self._options)
        after = quadratic_error(layer, weight - rounded, hessian)
        if not after < before:
            return MethodNote(NAME, layer.name, False, "rounding to the nearest code is as good")
        layer.set_weight(rounded, grid)
        return MethodNote(NAME, layer.name, True, f"output error {after / before:.3f} of plain rounding's")


def input_gram(layer: Layer) -> Tensor:
    """H = Σ x xᵀ of a layer's quantized inputs, [groups, K, K], float64."""
    total: Tensor | None = None
    for x in layer.quantized_inputs():
        rows = layer.rows(x)
        gram = (rows.transpose(1, 2) @ rows).double()
        total = gram if total is None else total + gram
    assert total is not None
    if layer.clipped_units and layer.kind == "linear":
        units = list(layer.clipped_units)
        total[:, units, :] = 0.0
        total[:, :, units] = 0.0
    return total


def quadratic_error(layer: Layer, error: Tensor, gram: Tensor) -> float:
    """Σ e H eᵀ over the rows e of a weight's error: the squared error of the output."""
    rows = error.double().reshape(layer.groups, -1, gram.shape[-1])
    return float(((rows @ gram) * rows).sum())


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


def spread(parameter: Tensor, weight: Tensor, grid: QParams) -> Tensor:
    """A scale or zero point repeated to the shape of the weight."""
    if grid.group_size is not None:
        return parameter.repeat_interleave(grid.group_size, dim=-1)
    if grid.axis is not None:
        shape = [1] * weight.ndim
        shape[grid.axis] = -1
        return parameter.reshape(shape).expand(weight.shape)
    return parameter.expand(weight.shape)
