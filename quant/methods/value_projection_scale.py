"""A channel scale between an attention's values and the projection behind it, folded into both.

The projection reads x = softmax(S) V, and each channel of x is a mean over tokens of the same channel of V::

    W_V,c ← W_V,c / r_c,   b_V,c ← b_V,c / r_c,   W_proj,:c ← r_c W_proj,:c
    r = s / mean(s),   s_c = u_c^a / w_c^b

with u_c the range, largest or mean magnitude of x_c and w_c = max |W_proj,:c|; row c of the values costs
nothing, for it has a scale of its own. Because the rows of a softmax sum to one, an offset of V is one of x::

    b_V,c ← b_V,c + d_c,   b_proj ← b_proj − W_proj d,   d_c = −(low_c + high_c) / 2

so x can be centred, too (``centre``): symmetric formats and channels of different means gain by it.

Source: SmoothQuant (Xiao et al. 2023, equation 4) and AWQ (Lin et al. 2023, section 3.2) for the scale;
RepQ-ViT (Li et al. 2023, section 3.2) for the offset, carried from LayerNorm to the values. The search is
described in :mod:`quant.methods.exponent_search`.
"""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, layer_name, tensor_of
from quant.graph.parameters import update_parameter
from quant.methods.attention_paths import ValueProjection, find_value_projections
from quant.methods.exponent_search import (
    ExponentOptions,
    WeightExponent,
    best_exponent,
    reader_of,
    with_mean_one,
    without_zeros,
)
from quant.methods.registry import MethodNote, register_method
from quant.methods.statistics import ChannelRange, Statistics
from quant.placement import spec_at
from quant.recipe import Recipe

__all__ = ["ValueProjectionScale", "ValueProjectionScaleOptions"]

NAME = "value_projection_scale"


class ValueProjectionScaleOptions(ExponentOptions):
    """Options.

    Attributes:
        statistic: u_c, the channel's ``range``, its largest magnitude ``amax``, or ``mean_abs`` over the
            sampled rows.
        weight_exponent: b, a number or ``complement`` for 1 − a.
        centre: move every channel's range around zero.
    """

    statistic: Literal["range", "amax", "mean_abs"] = "amax"
    weight_exponent: WeightExponent = 0.0
    centre: bool = False


@register_method(NAME, ValueProjectionScaleOptions)
class ValueProjectionScale:
    """The method, see the module's text."""

    def __init__(self, options: ValueProjectionScaleOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """What the projections behind attention read."""
        return [_input(f) for f in find_value_projections(graph) if isinstance(f, ValueProjection)]

    def sampled(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The same, where rows are looked at."""
        options = self._options
        return self.watched(graph) if options.searches or options.statistic == "mean_abs" else []

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Fold into the values of every attention with a linear layer behind it."""
        notes = []
        for found in find_value_projections(graph):
            if not isinstance(found, ValueProjection):
                notes.append(MethodNote(NAME, found[0], False, found[1]))
                continue
            if all(spec_at(recipe, f"linear.{end}", found.linear) is None for end in ("input", "weight")):
                notes.append(MethodNote(NAME, found.layer, False, "the layer behind it is not quantized"))
                continue
            text = self._fold(graph, found, seen, recipe)
            into = f"channel scales folded into {layer_name(found.source)} and {layer_name(found.linear)}"
            notes.append(MethodNote(NAME, found.layer, True, f"{into}, {text}"))
        return notes

    def _fold(self, graph: fx.GraphModule, found: ValueProjection, seen: Statistics, recipe: Recipe) -> str:
        value = _input(found)
        bounds = seen[value]
        middle = (bounds.low.double() + bounds.high.double()) / 2
        offset = -middle if self._options.centre else torch.zeros_like(middle)  # d [C]
        activation = without_zeros(self._statistic(found, seen, offset).double())  # u [C]
        weight = tensor_of(graph, str(constant_name(found.linear.args[1]))).detach()
        column = without_zeros(weight.abs().amax(dim=0).double())  # w [C]

        def ratio_of(exponent: float) -> Tensor:
            b = self._options.weight_exponent
            return with_mean_one(
                activation**exponent / column ** (1.0 - exponent if b == "complement" else b)
            )

        def search() -> Tensor:
            reader = reader_of(graph, found.linear, seen.samples[value] + offset, recipe)
            return best_exponent(
                self._options.candidates, lambda a: reader.error(ratio_of(a)), reader.error(shift=-offset)
            )

        if self._options.exponent == "search":
            exponent, share = (float(v) for v in seen.once(f"{NAME}/{found.layer}/exponent", search))
            text = f"exponent {exponent:g}: output error {share:.2f} times the unscaled one"
        else:
            exponent = self._options.exponent
            text = f"exponent {exponent:g}"
        ratio = ratio_of(exponent)
        fold_into_values(graph, found, ratio, offset)
        seen.rescale(value, 1.0 / ratio, offset / ratio)
        rows = torch.ones(
            len(tensor_of(graph, str(constant_name(found.source.args[2])))), dtype=torch.float64
        )
        seen.rescale(
            found.source,
            rows.index_put((found.rows,), 1.0 / ratio),
            torch.zeros_like(rows).index_put((found.rows,), offset / ratio),
        )
        return text

    def _statistic(self, found: ValueProjection, seen: Statistics, offset: Tensor) -> Tensor:
        value = _input(found)
        low, high = seen[value].low, seen[value].high
        if self._options.statistic == "range":
            return high - low
        if self._options.statistic == "amax":
            return ChannelRange(low + offset, high + offset).amax
        name = f"{NAME}/{found.layer}/mean_abs"
        return seen.once(name, lambda: (seen.samples[value] + offset).abs().mean(dim=0))


def fold_into_values(graph: fx.GraphModule, found: ValueProjection, ratio: Tensor, offset: Tensor) -> None:
    """Make the values ``(v + d) / r`` and let the projection take it back.

    Args:
        graph: changed in place.
        found: the two layers.
        ratio: r [C], not zero.
        offset: d [C].
    """
    rows, (source, linear) = found.rows, (found.source, found.linear)
    weight = tensor_of(graph, str(constant_name(linear.args[1]))).detach().double()
    correction = weight @ offset  # W_proj d [O]
    update_parameter(graph, source.args[1], lambda w: w.index_copy(0, rows, w[rows] / ratio[:, None]))
    update_parameter(graph, source.args[2], lambda b: b.index_copy(0, rows, (b[rows] + offset) / ratio))
    update_parameter(graph, linear.args[1], lambda w: w * ratio)
    update_parameter(graph, linear.args[2], lambda b: b - correction)


def _input(found: ValueProjection) -> fx.Node:
    value = found.linear.args[0]
    assert isinstance(value, fx.Node)
    return value
