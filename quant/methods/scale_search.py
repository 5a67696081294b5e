"""Scale search: choose scales by what the quantized layer returns instead of by the range of the values.

For a layer y = x Wᵀ + b with float outputs y on its real inputs x, alternately

    s_W ← argmax  closeness(y, Q(x; s_x) Q(W; s_W)ᵀ + b),    s_x ← argmax of the same,

over factors of the min-max scale, with the min-max scale itself and the one in force among the candidates,
until neither changes or the rounds are used up. ``mse``: closeness is −‖y − ŷ‖² / n. ``pearson``: it is the
correlation Γ(y, ŷ), which is blind to a gain and a shift of what it is taken over.

A weight with one scale per output channel (or several) is scored per channel: the error of a channel is its
own, so each takes its best factor from the same trials. The objective is the mean over channels, or over
images where the weight has a single scale. An activation's range is scaled at both ends, so its zero point
stays. Attention products are treated in the same way: two ranges take the place of the two scales.

Source: Liu et al. 2021, "Post-Training Quantization for Vision Transformer", section 3.2 (similarity-aware
quantization, alternating search in [0.5, 1.2]); ``mse`` has the squared error in the correlation's place.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quant.kernels import fake_quantize
from quant.layout import aminmax
from quant.methods.registry import MethodNote, register_method
from quant.methods.search_options import SearchOptions
from quant.placement import Site
from quant.qparams import QParams, qparams_from_range
from quant.tuning.layer import Layer
from quant.tuning.objectives import Objective, closeness
from quant.tuning.product import Product
from quant.tuning.product_search import SampledProduct, search_ranges
from quant.tuning.ranges import Range, factors, has_one_range, input_bounds, quantize_in, scaled
from quant.tuning.sampled_rows import SampledRows

__all__ = ["ScaleSearch", "ScaleSearchOptions"]

NAME = "scale_search"


class ScaleSearchOptions(SearchOptions):
    """Options.

    Attributes:
        objective: ``mse`` or ``pearson``.
    """

    objective: Objective = "mse"


@register_method(NAME, ScaleSearchOptions)
class ScaleSearch:
    """The method, see the module's text. Give it in front of methods that round weights, such as GPTQ."""

    def __init__(self, options: ScaleSearchOptions) -> None:
        self._options = options
        self._factors = factors(options.low, options.high, options.candidates)
        self._moved: set[Site] = set()

    @torch.no_grad()
    def tune_layer(self, layer: Layer) -> MethodNote:
        """Search the scales of a layer's weight and input."""
        moves_input = has_one_range(layer.input_quantizer) and layer.input_site not in self._moved
        search = _LayerSearch(layer, self._options, self._factors, moves_input)
        if moves_input and layer.input_shared and layer.input_site is not None:
            self._moved.add(layer.input_site)
        before, after = search.run()
        found = f"{self._options.objective} {abs(before):.4g} → {abs(after):.4g}"
        if layer.input_shared:
            found += "; its input's scale serves other layers, too: " + (
                "chosen here for all" if moves_input else "left as the first of them chose it"
            )
        return MethodNote(NAME, layer.name, after > before, found)

    @torch.no_grad()
    def tune_product(self, product: Product) -> MethodNote | None:
        """Search the ranges of a product's operands."""
        options = self._options
        sample = SampledProduct.draw(product, options.images, options.rows, options.seed)

        def score(found: Tensor, wanted: Tensor) -> float:
            dims = range(1, found.ndim)
            return float(closeness(options.objective, found, wanted, dims).mean())

        found = search_ranges(product, sample, self._factors, options.rounds, score)
        if found is None:
            return None
        text = f"{options.objective} {abs(found.before):.4g} → {abs(found.after):.4g}"
        return MethodNote(NAME, product.name, found.after > found.before, text)


@dataclass
class _Choice:
    """Scales under trial.

    Attributes:
        grid: of the weight.
        weight: rounded to it.
        bounds: the input's range; None where the inputs are taken as they are.
        inputs: quantized with it, [groups, B, R, K].
    """

    grid: QParams
    weight: Tensor
    bounds: Range | None
    inputs: Tensor


class _LayerSearch:
    """The alternating search at one layer."""

    def __init__(self, layer: Layer, options: ScaleSearchOptions, by: list[float], moves_input: bool) -> None:
        self._layer = layer
        self._options = options
        self._weight, self._bias = layer.weight, layer.bias
        spec = layer.weight_site.spec
        widest = qparams_from_range(*aminmax(self._weight, spec), spec, layer.weight_site.name)
        self._grids = [replace(widest, scale=widest.scale * f) for f in by]
        self._per_channel = widest.group_size is not None or widest.axis == 0
        self._rows = SampledRows.draw(layer, options.rows, options.seed, quantized=not moves_input)
        self._ranges: list[Range] = []
        if moves_input:
            assert layer.input_quantizer is not None
            self._ranges = scaled(input_bounds(layer.input_quantizer), by)

    def run(self) -> tuple[float, float]:
        """Search, and give the layer what was found; returns the objective before and after."""
        in_force = self._layer.input_quantizer.range if self._layer.input_quantizer and self._ranges else None
        start = self._choice(self._layer.grid, in_force)
        before = float(self._scores(start).mean())
        best = max(
            (start, self._choice(self._grids[0], self._ranges[0] if self._ranges else None)),
            key=lambda choice: float(self._scores(choice).mean()),
        )
        found = float(self._scores(best).mean())
        for _ in range(self._options.rounds):
            previous = found
            best = self._better_input(self._better_weight(best))
            found = float(self._scores(best).mean())
            if not found > previous:
                break
        if found > before:
            self._layer.set_grid(best.grid)
            if best.bounds is not None and best.bounds is not in_force:
                self._layer.set_input_range(*best.bounds)
        return before, found

    def _better_weight(self, now: _Choice) -> _Choice:
        best, scale, zero_point = self._scores(now), now.grid.scale, now.grid.zero_point
        if not self._per_channel:
            best = best.mean()
        for grid in self._grids:
            scores = self._scores(replace(now, weight=self._rounded(grid)))
            scores = scores if self._per_channel else scores.mean()
            better = scores > best
            best = torch.where(better, scores, best)
            mask = better.reshape(-1, *[1] * (scale.ndim - 1)) if scale.ndim else better
            scale = torch.where(mask, grid.scale, scale)
            zero_point = torch.where(mask, grid.zero_point, zero_point)
        grid = replace(now.grid, scale=scale, zero_point=zero_point)
        return replace(now, grid=grid, weight=self._rounded(grid))

    def _better_input(self, now: _Choice) -> _Choice:
        best, found = now, float(self._scores(now).mean())
        for bounds in self._ranges:
            trial = replace(now, bounds=bounds, inputs=self._quantized(bounds))
            score = float(self._scores(trial).mean())
            if score > found:
                best, found = trial, score
        return best

    def _choice(self, grid: QParams, bounds: Range | None) -> _Choice:
        return _Choice(grid, self._rounded(grid), bounds, self._quantized(bounds))

    def _scores(self, choice: _Choice) -> Tensor:
        """Closeness of every channel [O], or of every image [B]."""
        found = self._rows.outputs(choice.inputs, choice.weight, self._bias)
        dims = (0, 1) if self._per_channel else (1, 2)
        return closeness(self._options.objective, found, self._rows.wanted, dims)

    def _rounded(self, grid: QParams) -> Tensor:
        return fake_quantize(self._weight, grid, self._layer.weight_site.name)

    def _quantized(self, bounds: Range | None) -> Tensor:
        quantizer = self._layer.input_quantizer
        if bounds is None or quantizer is None:
            return self._rows.inputs
        return quantize_in(self._rows.inputs, bounds, quantizer)
