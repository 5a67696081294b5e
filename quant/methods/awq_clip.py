"""AWQ's clip search: clip each group of weights as far as the layer's own inputs say that it pays.

For output row o and the weights w_g that share a scale, with x_g the inputs that meet them, among the present
grid and the grids of w_g clamped to ±f · max |w_g|, f = 1, 0.95, …, 0.55, the one with the least

    Σ_x (w_g · x_g − Q(w_g) · x_g)² = e H_gg eᵀ,   e = w_g − Q(w_g),   H_gg = Σ_x x_g x_gᵀ

Groups are judged one by one, as if all others were exact; a layer whose output error as a whole does not
shrink keeps its grid. AWQ samples 512 tokens; through H, a block of the inputs' Gram matrix, every token
counts at no higher cost. AWQ leaves out q and k; here they are rows of one fused layer and are searched.

AWQ is the per-channel scales searched at LayerNorm → Linear and V → projection, which are folded into the
float weights before calibration, followed by this clip search on the scaled weights: a recipe that names the
scale search first and ``awq_clip`` behind it, with weights per group.

Source: Lin et al. 2024, "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration"; the
clip search is described in its implementation only (``auto_clip.py``).
"""

import torch
from pydantic import Field
from torch import Tensor

from quant.kernels import fake_quantize
from quant.methods.registry import MethodNote, MethodOptions, WeightsOnly, register_method
from quant.qparams import QParams
from quant.tuning.eligible import why_not
from quant.tuning.gram import input_gram, quadratic_error
from quant.tuning.grid_search import best_grid, shrunk_grids
from quant.tuning.layer import Layer

__all__ = ["AwqClip", "AwqClipOptions", "group_errors"]

NAME = "awq_clip"


class AwqClipOptions(MethodOptions):
    """Options.

    Attributes:
        steps: the factors are 1 − i / steps.
        shrink: factors above 1 − shrink are tried.
        up_to_bits: weights of more bits are left alone.
    """

    steps: int = Field(default=20, ge=1, le=100)
    shrink: float = Field(default=0.5, gt=0.0, lt=1.0)
    up_to_bits: int = Field(default=8, ge=2, le=8)


@register_method(NAME, AwqClipOptions)
class AwqClip(WeightsOnly):
    """The method, see the module's text."""

    def __init__(self, options: AwqClipOptions) -> None:
        self._options = options

    def tune_layer(self, layer: Layer) -> MethodNote:
        """Choose the weight's scales and zero points."""
        reason = why_not(layer, self._options.up_to_bits)
        old, site = layer.grid, layer.weight_site
        if reason is None and old.axis not in (None, 0):
            reason = "its scales are not one per output channel"
        if reason is not None:
            return MethodNote(NAME, layer.name, False, reason)
        gram = input_gram(layer)
        count = max(1, round(self._options.shrink * self._options.steps))
        factors = [1.0 - i / self._options.steps for i in range(count)]
        candidates = [old, *shrunk_grids(layer.weight, site.spec, factors, site.name)]
        grid = best_grid(candidates, lambda g: group_errors(layer, g, gram))
        before, after = (
            quadratic_error(layer, layer.weight - fake_quantize(layer.weight, g, site.name), gram)
            for g in (old, grid)
        )
        if not after < before:
            return MethodNote(NAME, layer.name, False, "no clipping lowers the output error")
        layer.set_grid(grid)
        return MethodNote(NAME, layer.name, True, f"output error {after / before:.3f} of before")


def group_errors(layer: Layer, grid: QParams, gram: Tensor) -> Tensor:
    """Squared output error that the weights of every scale cause alone, the shape of the scales.

    Args:
        layer: its weight has one scale per tensor, output channel or group.
        grid: the scales to judge.
        gram: H [groups, K, K].
    """
    weight = layer.weight
    groups, depth = gram.shape[:2]
    size = grid.group_size or depth
    error = (weight - fake_quantize(weight, grid, layer.weight_site.name)).double()
    error = error.reshape(groups, -1, depth // size, size).transpose(1, 2)  # [G, n, O / G, size]
    blocks = gram.reshape(groups, depth // size, size, depth // size, size)
    diagonal = torch.stack([blocks[:, i, :, i] for i in range(depth // size)], dim=1)  # [G, n, size, size]
    found = ((error @ diagonal) * error).sum(dim=-1).transpose(1, 2)  # [G, O / G, n]
    return found.sum() if grid.scale.ndim == 0 else found.reshape(grid.scale.shape)
