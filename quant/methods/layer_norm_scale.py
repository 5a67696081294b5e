"""LayerNorm → Linear with a channel scale of searched strength: RepQ, SmoothQuant and AWQ in one.

    s_c = u_c^a / w_c^b,   r = s / mean(s),   LayerNorm returns x / r, the linear layers have W diag(r)

with u_c a statistic of channel c of the LayerNorm's output and w_c = max |W_:,c| over the layers behind it.
What the per-tensor range of the input gains, the rows of the weight lose, so the best a depends on both
widths:

| method | statistic | a | b |
|---|---|---|---|
| RepQ-ViT | ``range`` | 1, with ``zero_point: integer`` | 0 |
| SmoothQuant | ``amax`` | 0.5 | ``complement``: 1 − a |
| AWQ | ``mean_abs`` | ``search`` | 0 |
| RepQ tempered for 4-bit weights | ``range`` | ``search`` | 0 |

With zero points, the channels' ranges are also moved onto a common middle: with the scale of channel c
σ_c = mean(extent) / (2^bits − 1) · r_c,

    z_c = round((2^bits − 1) / 2 − (low_c + high_c) / (2 σ_c)),   x~_c = x_c / r_c + σ (z_c − z)

which for a = 1, b = 0 is the fold of ``layer_norm_linear``.

Sources: RepQ-ViT (Li et al. 2023, section 3.2); SmoothQuant (Xiao et al. 2023, equation 4); AWQ (Lin et al.
2023, section 3.2). The search is described in :mod:`quant.methods.exponent_search`.
"""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, fx

from quant.graph.layer_norm_readers import linear_readers, reason_against_folding
from quant.graph.nodes import constant_name, is_call, layer_name, module_of, tensor_of
from quant.methods.exponent_search import (
    ExponentOptions,
    WeightExponent,
    best_exponent,
    reader_of,
    with_mean_one,
    without_zeros,
)
from quant.methods.norm_fold import fold_into_norm, tell_fold
from quant.methods.registry import MethodNote, register_method
from quant.methods.statistics import ChannelRange, Statistics
from quant.placement import spec_at
from quant.recipe import Recipe

__all__ = ["LayerNormScale", "LayerNormScaleOptions"]

aten = torch.ops.aten
NAME = "layer_norm_scale"


class LayerNormScaleOptions(ExponentOptions):
    """Options.

    Attributes:
        statistic: u_c, the channel's ``range`` (widened to hold zero), largest magnitude ``amax``, or
            ``mean_abs`` over the sampled rows.
        weight_exponent: b, a number or ``complement`` for 1 − a.
        zero_point: ``keep`` moves no range; ``integer`` and ``zero`` put the common zero point z at the
            rounded mean of z_c or at the middle code.
    """

    statistic: Literal["range", "amax", "mean_abs"] = "range"
    weight_exponent: WeightExponent = 0.0
    zero_point: Literal["keep", "integer", "zero"] = "integer"


@register_method(NAME, LayerNormScaleOptions)
class LayerNormScale:
    """The method, see the module's text."""

    def __init__(self, options: LayerNormScaleOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """What the linear layers behind a LayerNorm read."""
        return [value for norm in _norms(graph) for value in _inputs(linear_readers(norm))]

    def sampled(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The same, where rows are looked at."""
        options = self._options
        return self.watched(graph) if options.searches or options.statistic == "mean_abs" else []

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Fold into every LayerNorm that feeds nothing but linear layers."""
        notes = []
        for norm in _norms(graph):
            layer = module_of(norm) or norm.name
            linears = linear_readers(norm)
            reason = reason_against_folding(graph, norm, linears)
            specs = [spec_at(recipe, "linear.input", n) for n in linears]
            if reason is None and any(spec != specs[0] for spec in specs):
                reason = "the linear layers behind it are not quantized alike"
            weights = [spec_at(recipe, "linear.weight", n) for n in linears]
            if reason is None and specs[0] is None and not any(weights):
                reason = "the linear layers behind it are not quantized"
            if reason is not None:
                notes.append(MethodNote(NAME, layer, False, reason))
                continue
            site = _Site(graph, layer, linears, seen, self._options, specs[0].bits if specs[0] else 8)
            exponent, text = site.exponent(recipe)
            ratio = site.ratio(exponent)
            shift = site.shift(ratio)
            fold_into_norm(graph, norm, linears, ratio, shift)
            tell_fold(seen, norm, ratio, shift)
            names = ", ".join(layer_name(n) for n in linears)
            notes.append(MethodNote(NAME, layer, True, f"channel scales folded into {names}, {text}"))
        return notes


class _Site:
    """A LayerNorm and its readers, before the fold."""

    def __init__(
        self,
        graph: fx.GraphModule,
        layer: str,
        linears: list[fx.Node],
        seen: Statistics,
        options: LayerNormScaleOptions,
        bits: int,
    ) -> None:
        self._graph, self._layer, self._linears = graph, layer, linears
        self._seen, self._options, self._bits = seen, options, bits
        bounds = [seen[value] for value in _inputs(linears)]
        self._low = torch.stack([b.low for b in bounds]).amin(dim=0).double()
        self._high = torch.stack([b.high for b in bounds]).amax(dim=0).double()
        weights = [tensor_of(graph, str(constant_name(n.args[1]))) for n in linears]
        column = torch.stack([w.detach().abs().amax(dim=0) for w in weights]).amax(dim=0)
        self._column = without_zeros(column.double())
        self._activation = without_zeros(self._statistic().double())

    def exponent(self, recipe: Recipe) -> tuple[float, str]:
        """a, and how it was found."""
        given = self._options.exponent
        if given != "search":
            return given, f"exponent {given:g}"
        found = self._seen.once(f"{NAME}/{self._layer}/exponent", lambda: self._search(recipe))
        exponent, share = (float(v) for v in found)
        return exponent, f"exponent {exponent:g}: output error {share:.2f} times the unscaled one"

    def ratio(self, exponent: float) -> Tensor:
        """The factor r, [C]."""
        b = self._options.weight_exponent
        b = 1.0 - exponent if b == "complement" else b
        return with_mean_one(self._activation**exponent / self._column**b)

    def shift(self, ratio: Tensor) -> Tensor:
        """σ (z_c − z) [C]."""
        if self._options.zero_point == "keep":
            return torch.zeros_like(ratio)
        levels = (1 << self._bits) - 1
        low, high = self._low.clamp(max=0), self._high.clamp(min=0)
        step = without_zeros(high - low).mean() / levels  # σ
        zero = (levels / 2 - (low + high) / (2 * step * ratio)).round()  # z_c
        middle = float(1 << (self._bits - 1))
        common = zero.mean().round() if self._options.zero_point == "integer" else middle
        shift: Tensor = step * (zero - common)
        return shift

    def _statistic(self) -> Tensor:
        if self._options.statistic == "range":
            return self._high.clamp(min=0) - self._low.clamp(max=0)
        if self._options.statistic == "amax":
            return ChannelRange(self._low, self._high).amax
        return self._seen.once(f"{NAME}/{self._layer}/mean_abs", self._mean_abs)

    def _mean_abs(self) -> Tensor:
        rows = torch.cat([self._seen.samples[value] for value in _inputs(self._linears)])
        return rows.abs().mean(dim=0)

    def _search(self, recipe: Recipe) -> Tensor:
        samples = self._seen.samples
        readers = [
            reader_of(self._graph, linear, samples[value], recipe)
            for linear, value in zip(self._linears, map(_input, self._linears), strict=True)
        ]

        def error(exponent: float) -> float:
            ratio = self.ratio(exponent)
            return sum(reader.error(ratio, self.shift(ratio)) for reader in readers)

        return best_exponent(self._options.candidates, error, sum(reader.error() for reader in readers))


def _norms(graph: fx.GraphModule) -> list[fx.Node]:
    return [n for n in graph.graph.nodes if is_call(n, aten.layer_norm.default)]


def _input(linear: fx.Node) -> fx.Node:
    value = linear.args[0]
    assert isinstance(value, fx.Node)
    return value


def _inputs(linears: list[fx.Node]) -> list[fx.Node]:
    return list(dict.fromkeys(map(_input, linears)))
