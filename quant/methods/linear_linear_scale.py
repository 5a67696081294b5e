"""A channel scale between a linear layer and the linear layers behind its ReLU, folded into both.

ReLU is positively homogeneous, ReLU(x / r) = ReLU(x) / r for r > 0. In y = W2 ReLU(W1 x + b1) + b2 any r > 0
per channel can therefore move from one weight into the other without changing y::

    W1,c: ← W1,c: / r_c,   b1,c ← b1,c / r_c,   W2,:c ← r_c W2,:c
    r = s / mean(s),   s_c = u_c^a / w_c^b

with u_c a statistic of channel c of what the layers behind the ReLU read and w_c = max |W2,:c| over these
layers. Row c of W1 costs nothing where each row has scales of its own. AWQ is ``statistic: mean_abs`` with
``exponent: search``, ``steps: 20`` and b = 0; it divides s by √(max(s) · min(s)) instead of its mean, but a
factor common to all channels decides nothing.

Source: AWQ (Lin et al. 2023, section 3.2; ``scale_fc_fc`` in its implementation). The search is described in
:mod:`quant.methods.exponent_search`.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx

from quant.graph.layer_norm_readers import linear_readers
from quant.graph.nodes import constant_name, is_call, layer_name, tensor_of
from quant.graph.parameters import is_private, update_parameter
from quant.methods.exponent_search import (
    ExponentOptions,
    WeightExponent,
    best_exponent,
    reader_of,
    with_mean_one,
    without_zeros,
)
from quant.methods.norm_fold import tell_fold
from quant.methods.registry import MethodNote, register_method
from quant.methods.statistics import ChannelRange, Statistics
from quant.placement import spec_at
from quant.recipe import Recipe

__all__ = ["LinearLinearScale", "LinearLinearScaleOptions"]

aten = torch.ops.aten
NAME = "linear_linear_scale"


class LinearLinearScaleOptions(ExponentOptions):
    """Options.

    Attributes:
        statistic: u_c, the channel's largest magnitude ``amax``, or ``mean_abs`` over the sampled rows.
        weight_exponent: b, a number or ``complement`` for 1 − a.
    """

    statistic: Literal["amax", "mean_abs"] = "mean_abs"
    weight_exponent: WeightExponent = 0.0


@dataclass(frozen=True, eq=False)
class _Place:
    """A linear layer, its ReLU, and the linear layers that read it; none where something else does, too."""

    source: fx.Node
    relu: fx.Node
    readers: list[fx.Node]

    @property
    def inputs(self) -> list[fx.Node]:
        """What the readers read: the ReLU, at most rearranged."""
        return list(dict.fromkeys(_input(reader) for reader in self.readers))


@register_method(NAME, LinearLinearScaleOptions)
class LinearLinearScale:
    """The method, see the module's text."""

    def __init__(self, options: LinearLinearScaleOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """What the linear layers behind each ReLU read."""
        return [value for place in _places(graph) for value in place.inputs]

    def sampled(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The same, where rows are looked at."""
        options = self._options
        return self.watched(graph) if options.searches or options.statistic == "mean_abs" else []

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Fold between every two linear layers with a ReLU that nothing else reads."""
        notes = []
        for place in _places(graph):
            layer = layer_name(place.source)
            reason = _reason_against(graph, place, recipe)
            if reason is not None:
                notes.append(MethodNote(NAME, layer, False, reason))
                continue
            text = self._fold(graph, place, seen, recipe)
            names = ", ".join(layer_name(n) for n in (place.source, *place.readers))
            notes.append(MethodNote(NAME, layer, True, f"channel scales folded into {names}, {text}"))
        return notes

    def _fold(self, graph: fx.GraphModule, place: _Place, seen: Statistics, recipe: Recipe) -> str:
        layer = layer_name(place.source)
        weights = [tensor_of(graph, str(constant_name(n.args[1]))) for n in place.readers]
        column = torch.stack([w.detach().abs().amax(dim=0) for w in weights]).amax(dim=0)
        column = without_zeros(column.double())  # w [C]
        activation = without_zeros(self._statistic(place, seen).double())  # u [C]

        def ratio_of(exponent: float) -> Tensor:
            b = self._options.weight_exponent
            b = 1.0 - exponent if b == "complement" else b
            return with_mean_one(activation**exponent / column**b)

        def search() -> Tensor:
            readers = [reader_of(graph, n, seen.samples[_input(n)], recipe) for n in place.readers]
            return best_exponent(
                self._options.candidates,
                lambda a: sum(reader.error(ratio_of(a)) for reader in readers),
                sum(reader.error() for reader in readers),
            )

        exponent = self._options.exponent
        text = f"exponent {exponent}"
        if exponent == "search":
            exponent, share = (float(v) for v in seen.once(f"{NAME}/{layer}/exponent", search))
            text = f"exponent {exponent:g}: output error {share:.2f} times the unscaled one"
        ratio = ratio_of(exponent)
        update_parameter(graph, place.source.args[1], lambda w: w / ratio[:, None])
        if _bias(place.source) is not None:
            update_parameter(graph, _bias(place.source), lambda b: b / ratio)
        for reader in place.readers:
            update_parameter(graph, reader.args[1], lambda w: w * ratio)
        zero = torch.zeros_like(ratio)
        seen.rescale(place.source, 1.0 / ratio, zero)
        tell_fold(seen, place.relu, ratio, zero)
        return text

    def _statistic(self, place: _Place, seen: Statistics) -> Tensor:
        if self._options.statistic == "mean_abs":
            name = f"{NAME}/{layer_name(place.source)}/mean_abs"
            return seen.once(
                name, lambda: torch.cat([seen.samples[v] for v in place.inputs]).abs().mean(dim=0)
            )
        bounds = [seen[value] for value in place.inputs]
        low = torch.stack([b.low for b in bounds]).amin(dim=0)
        return ChannelRange(low, torch.stack([b.high for b in bounds]).amax(dim=0)).amax


def _places(graph: fx.GraphModule) -> Iterator[_Place]:
    for relu in graph.graph.nodes:
        if is_call(relu, aten.relu.default) and is_call(relu.args[0], aten.linear.default):
            source = relu.args[0]
            assert isinstance(source, fx.Node)
            yield _Place(source, relu, linear_readers(relu))


def _reason_against(graph: fx.GraphModule, place: _Place, recipe: Recipe) -> str | None:
    if not place.readers:
        return "something other than linear layers reads its ReLU"
    if len(place.source.users) > 1:
        return "something other than the ReLU reads it"
    for parameter in (*(n.args[1] for n in (place.source, *place.readers)), _bias(place.source)):
        if parameter is not None and not is_private(graph, parameter):
            return f"'{constant_name(parameter)}' is computed, or shared with another layer"
    formats = [spec_at(recipe, f"linear.{end}", n) for n in place.readers for end in ("input", "weight")]
    return None if any(formats) else "the linear layers behind it are not quantized"


def _rows(place: _Place, seen: Statistics) -> Tensor:
    return torch.cat([seen.samples[value] for value in place.inputs])


def _bias(linear: fx.Node) -> object:
    return [*linear.args, None][2]


def _input(linear: fx.Node) -> fx.Node:
    value = linear.args[0]
    assert isinstance(value, fx.Node)
    return value
