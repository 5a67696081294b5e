"""MSE grid: shrink each scale of a weight as long as rounding gains more inside than clipping loses outside.

For the values w that share a scale, among the present grid and the grids of w clamped to ±f · max |w| with
f = 1, 0.99, 0.98, …, the one with the least

    Σ |w − Q(w)|^norm

f = 1 is the min-max grid. An exponent above 2 weighs the few large values more, which multiply more.

Source: Frantar et al. 2023, "GPTQ", whose implementation chooses the grids of its rows in this way, with
norm 2.4 and f down to 0.2; with norm 2 the usual search for the least squared error.
"""

import torch
from pydantic import Field
from torch import Tensor

from quant.kernels import fake_quantize
from quant.layout import rows
from quant.methods.registry import MethodNote, MethodOptions, WeightsOnly, register_method
from quant.qparams import QParams
from quant.tuning.eligible import why_not
from quant.tuning.grid_search import best_grid, shrunk_grids
from quant.tuning.layer import Layer

__all__ = ["MseGrid", "MseGridOptions", "grid_errors"]

NAME = "mse_grid"


class MseGridOptions(MethodOptions):
    """Options.

    Attributes:
        norm: exponent of the error; 2 is the squared error.
        shrink: the smallest factor tried is 1 − shrink.
        up_to_bits: weights of more bits are left alone.
    """

    norm: float = Field(default=2.4, ge=1.0, le=4.0)
    shrink: float = Field(default=0.8, ge=0.0, le=0.99)
    up_to_bits: int = Field(default=6, ge=2, le=8)


@register_method(NAME, MseGridOptions)
class MseGrid(WeightsOnly):
    """The method, see the module's text."""

    def __init__(self, options: MseGridOptions) -> None:
        self._options = options

    def tune_layer(self, layer: Layer) -> MethodNote:
        """Choose the weight's scales and zero points."""
        reason = why_not(layer, self._options.up_to_bits)
        if reason is not None:
            return MethodNote(NAME, layer.name, False, reason)
        weight, site, old = layer.weight, layer.weight_site, layer.grid
        factors = [1.0 - 0.01 * i for i in range(round(100 * self._options.shrink) + 1)]

        def errors(grid: QParams) -> Tensor:
            return grid_errors(layer, weight, grid, self._options.norm)

        grid = best_grid([old, *shrunk_grids(weight, site.spec, factors, site.name)], errors)
        layer.set_grid(grid)
        share = float(errors(grid).sum() / errors(old).sum().clamp(min=1e-30))
        return MethodNote(NAME, layer.name, True, f"weight error {share:.3f} of before")


def grid_errors(layer: Layer, weight: Tensor, grid: QParams, norm: float) -> Tensor:
    """Σ |w − Q(w)|^norm for every scale, float64, the shape of the scales."""
    site = layer.weight_site
    error = (weight - fake_quantize(weight, grid, site.name)).abs()
    powers = error.square() if norm == 2 else error.pow(norm)
    found = rows(powers, site.spec, site.name).sum(dim=1, dtype=torch.float64)
    return found.reshape(grid.scale.shape)
