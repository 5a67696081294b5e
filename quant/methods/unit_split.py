"""Split a hidden unit of large range into several of ordinary range, all of them integers.

With D the range of the other units, a unit g = GELU(x) that reaches m > D becomes k = ceil(m / D) units::

    g = min(g, D) + Σ_{j=1..k−1} clamp(g − j D, 0, D)        (the last one without upper bound)

fc1's row and fc2's column are copied k times; the offsets and bounds are constants per channel behind GELU.
The float function stays exactly what it was.

Shifting fc1's bias by −j D instead would save the subtraction, but GELU(a) − j D is not GELU(a − j D): the
sum of the bounded copies is off by up to 0.17, the depth of GELU, where a is near a multiple of D.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, is_call
from quant.graph.parameters import is_private, update_parameter
from quant.methods.gelu_linear import GeluLinear
from quant.methods.insert import derive, insert_in_front
from quant.methods.statistics import ChannelRange, Statistics

__all__ = ["UnitSplit", "plan_split", "reason_against_split", "split_units"]

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class UnitSplit:
    """How the units of a layer are split; C' ≥ C channels, the added ones last.

    Attributes:
        index: [C'], the unit that each channel is a part of.
        offset: [C'], j D.
        low: [C'], lower bound behind the offset; −∞ for ordinary units.
        high: [C'], upper bound; ∞ for ordinary units.
    """

    index: Tensor
    offset: Tensor
    low: Tensor
    high: Tensor

    def parts(self, g: Tensor) -> Tensor:
        """The parts [..., C'] of the units [..., C]."""
        return torch.clamp(g[..., self.index] - self.offset, self.low, self.high)


def plan_split(seen: ChannelRange, units: list[int]) -> UnitSplit:
    """Split ``units`` so that no part reaches farther than the other units do."""
    count = len(seen.low)
    index, offset = list(range(count)), [0.0] * count
    low, high = [-math.inf] * count, [math.inf] * count
    reach = float(seen.amax[[c for c in range(count) if c not in units]].max())  # D
    for unit in units:
        parts = max(1, math.ceil(float(seen.high[unit]) / reach))
        if parts > 1:
            high[unit] = reach
        for j in range(1, parts):
            index.append(unit)
            offset.append(j * reach)
            low.append(0.0)
            high.append(reach if j < parts - 1 else math.inf)
    return UnitSplit(torch.tensor(index), *(torch.tensor(v) for v in (offset, low, high)))


def reason_against_split(graph: fx.GraphModule, found: GeluLinear) -> str | None:
    """Why the units between two linear layers cannot be split, or None."""
    if found.reason is not None:
        return found.reason
    source = found.gelu.args[0] if is_call(found.gelu, aten.gelu.default) else None
    if not is_call(source, aten.linear.default) or not isinstance(source, fx.Node):
        return "no linear layer stands right in front of the GELU"
    if len(source.users) != 1 or len(found.gelu.users) != 1:
        return "something else also reads the hidden units"
    if not all(is_private(graph, parameter) for parameter in source.args[1:3] if parameter is not None):
        return "the layer in front of the GELU shares its weight"
    return None


def split_units(graph: fx.GraphModule, found: GeluLinear, plan: UnitSplit, seen: Statistics) -> None:
    """Widen both linear layers and put offsets and bounds behind the GELU.

    Args:
        graph: changed in place; the caller recompiles it.
        found: a place that :func:`reason_against_split` allows.
        plan: of its units.
        seen: kept up to date.
    """
    first, gelu, index = found.gelu.args[0], found.gelu, plan.index
    assert isinstance(first, fx.Node)
    for parameter in first.args[1:3]:
        if constant_name(parameter) is not None:
            update_parameter(graph, parameter, lambda p: p[index])
    update_parameter(graph, found.linear.args[1], lambda w: w[:, index])
    for node in (first, gelu):
        value = node.meta["val"]
        node.meta["val"] = value.new_empty((*value.shape[:-1], len(index)))
        if node in seen:
            seen[node] = ChannelRange(seen[node].low[index], seen[node].high[index])
        if node in seen.samples:
            seen.samples[node] = seen.samples[node][:, index]
    shifted = insert_in_front(graph, found.linear, aten.sub.Tensor, split_offset=plan.offset)
    derive(seen, shifted, gelu, torch.ones_like(plan.offset), -plan.offset)
    parts = insert_in_front(graph, found.linear, aten.clamp.Tensor, split_low=plan.low, split_high=plan.high)
    bounds = seen[shifted]
    seen[parts] = ChannelRange(*(b.clamp(plan.low, plan.high) for b in (bounds.low, bounds.high)))
    if shifted in seen.samples:
        seen.samples[parts] = seen.samples[shifted].clamp(plan.low, plan.high)
