"""The Gram matrix of what a layer reads, and the output error that follows from it."""

from torch import Tensor

from quant.qparams import QParams
from quant.tuning.layer import Layer

__all__ = ["input_gram", "quadratic_error", "spread"]


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


def spread(parameter: Tensor, weight: Tensor, grid: QParams) -> Tensor:
    """A scale or zero point repeated to the shape of the weight."""
    if grid.group_size is not None:
        return parameter.repeat_interleave(grid.group_size, dim=-1)
    if grid.axis is not None:
        shape = [1] * weight.ndim
        shape[grid.axis] = -1
        return parameter.reshape(shape).expand(weight.shape)
    return parameter.expand(weight.shape)
