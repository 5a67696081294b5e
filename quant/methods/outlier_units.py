"""Find hidden units whose range would spoil the scale of all others, and cure each layer by what it loses.

A channel c of a linear layer's input x is an outlier when m_c > threshold · median_c(m_c), m_c = max |x_c|.
The cures, cheapest first:

- ``none``: leave the layer as it is;
- ``side_path``: the units' products are computed in float beside the others (:mod:`quant.methods.side_path`);
- ``split``: behind a GELU, each unit becomes several of ordinary range (:mod:`quant.methods.unit_split`);
- ``float``: the layer is not quantized.

``auto`` measures, on sampled rows and in the recipe's formats, the squared error of the layer's output as a
share of its power under each cure, and takes the cheapest whose loss is within ``margin`` of the least;
``float`` only where even the least loss leaves less than ``least_sqnr`` dB.

Sources: the side path is section 3.1 of LLM.int8() (Dettmers et al. 2022) with columns fixed at calibration;
splitting follows outlier channel splitting (Zhao et al. 2019), along the value's range instead of in halves.
"""

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, fx

from quant.graph.nodes import NO_ROLE, constant_name, is_call, layer_name
from quant.graph.parameters import is_private
from quant.methods.exponent_search import Rounded, reader_of
from quant.methods.gelu_linear import GeluLinear, find_gelu_linears
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.side_path import CLIPPED_UNITS, add_side_path, outlying_units
from quant.methods.statistics import Statistics
from quant.methods.unit_split import plan_split, reason_against_split, split_units
from quant.placement import KEEP_FLOAT, spec_at
from quant.recipe import Recipe

__all__ = ["OutlierUnits", "OutlierUnitsOptions"]

aten = torch.ops.aten
NAME = "outlier_units"
CURES = ("none", "side_path", "split", "float")


class OutlierUnitsOptions(MethodOptions):
    """Options.

    Attributes:
        cure: one of the cures, or ``auto`` for the one that the layer's loss asks for.
        threshold: how many times the median range makes a unit an outlier.
        most: where more units than this share of all stand out, none is carried or split.
        where: inputs that are looked at: behind a ``gelu``, or ``all`` quantized linear layers.
        margin: ``auto`` takes a cheaper cure whose loss is at most this share above the least.
        least_sqnr: ``auto`` leaves a layer in float below this, in dB.
    """

    cure: Literal["auto", "side_path", "split", "float"] = "auto"
    threshold: float = Field(default=4.0, gt=1.0)
    most: float = Field(default=0.05, gt=0.0, le=1.0)
    where: Literal["gelu", "all"] = "gelu"
    margin: float = Field(default=0.1, ge=0.0)
    least_sqnr: float = 10.0


@register_method(NAME, OutlierUnitsOptions)
class OutlierUnits:
    """The method, see the module's text."""

    def __init__(self, options: OutlierUnitsOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The inputs that are looked at."""
        return list(dict.fromkeys(found.gelu for found in self._layers(graph)))

    def sampled(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The same, where losses are compared."""
        return self.watched(graph) if self._options.cure == "auto" else []

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Cure each quantized layer that has outliers."""
        notes = []
        for found in self._layers(graph):
            if spec_at(recipe, "linear.input", found.linear) is None:
                continue
            units = outlying_units(seen[found.gelu], self._options.threshold)
            if not units:
                text = f"no unit beyond {self._options.threshold:g} times the median"
                notes.append(MethodNote(NAME, found.layer, False, text))
                continue
            against = self._against(graph, found, units)
            cure, text = self._choose(graph, found, units, seen, recipe, against)
            peak = float(seen[found.gelu].amax.max())
            if cure == "side_path":
                add_side_path(graph, found.linear, units)
            elif cure == "split":
                split_units(graph, found, plan_split(seen[found.gelu], units), seen)
            elif cure == "float":
                found.linear.meta[KEEP_FLOAT] = True
            text = f"units {', '.join(map(str, units))} (up to {peak:.1f}): {text}"
            notes.append(MethodNote(NAME, found.layer, cure != "none", text))
        graph.graph.lint()
        graph.recompile()
        return notes

    def _layers(self, graph: fx.GraphModule) -> list[GeluLinear]:
        if self._options.where == "gelu":
            return find_gelu_linears(graph)
        behind_gelu = {found.linear: found for found in find_gelu_linears(graph)}
        linears = [n for n in graph.graph.nodes if is_call(n, aten.linear.default)]
        return [behind_gelu.get(n) or _any_linear(graph, n) for n in linears if constant_name(n.args[1])]

    def _against(self, graph: fx.GraphModule, found: GeluLinear, units: list[int]) -> dict[str, str]:
        """The cures that are impossible, and why."""
        side = split = found.reason
        if CLIPPED_UNITS in found.linear.meta:
            side = split = "it has a side path already"
        elif len(units) > self._options.most * int(found.gelu.meta["val"].shape[-1]):
            side = split = f"{len(units)} units stand out, too many"
        split = split or reason_against_split(graph, found)
        return {name: why for name, why in (("side_path", side), ("split", split)) if why}

    def _choose(
        self,
        graph: fx.GraphModule,
        found: GeluLinear,
        units: list[int],
        seen: Statistics,
        recipe: Recipe,
        against: dict[str, str],
    ) -> tuple[str, str]:
        """The cure and what to say about it."""
        if self._options.cure != "auto":
            cure: str = self._options.cure
            return ("none", f"no {cure}: {against[cure]}") if cure in against else (cure, cure)

        def search() -> Tensor:
            reader = reader_of(graph, found.linear, seen.samples[found.gelu], recipe)
            return _losses(reader, found, units, seen, against)

        losses = dict(zip(CURES, seen.once(f"{NAME}/{found.layer}/losses", search).tolist(), strict=True))
        least = min(losses[name] for name in CURES[:3])
        cure = next(name for name in CURES if losses[name] <= (1.0 + self._options.margin) * least)
        if -10.0 * math.log10(max(least, 1e-30)) < self._options.least_sqnr:
            cure = "float"
        measured = ", ".join(f"{name} {loss:.3g}" for name, loss in losses.items() if loss < math.inf)
        return cure, f"{cure} (loss {measured})"


def _losses(
    reader: Rounded, found: GeluLinear, units: list[int], seen: Statistics, against: dict[str, str]
) -> Tensor:
    """Output error over output power under each of :data:`CURES`, [4]; infinite where it is impossible."""
    rows, weight = reader.rows, reader.weight
    power = max(reader.power, 1e-30)

    def loss(rows: Tensor, weight: Tensor) -> float:
        return replace(reader, rows=rows, weight=weight).error() / power

    found_losses = [loss(rows, weight), math.inf, math.inf, 0.0]
    if "side_path" not in against:
        index = torch.tensor(units)
        found_losses[1] = loss(rows.index_fill(1, index, 0.0), weight.index_fill(1, index, 0.0))
    if "split" not in against:
        plan = plan_split(seen[found.gelu], units)
        found_losses[2] = loss(plan.parts(rows), weight[:, plan.index])
    return torch.tensor(found_losses, dtype=torch.float64)


def _any_linear(graph: fx.GraphModule, linear: fx.Node) -> GeluLinear:
    """A linear layer without a GELU in front, in the form of one that has it."""
    value = linear.args[0]
    assert isinstance(value, fx.Node)
    reason = None
    if not is_private(graph, linear.args[1]):
        reason = "its weight is shared with another layer"
    elif any(user is not linear and NO_ROLE not in user.meta for user in value.users):
        reason = "something else also reads its input"
    return GeluLinear(layer_name(linear), value, linear, reason)
