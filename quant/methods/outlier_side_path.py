"""A float side path for the few hidden units whose range would spoil the scale of all others.

A unit c of the tensor behind GELU is an outlier when m_c > threshold · median_c(m_c), m_c = max |x_c|. With O
the outlier units::

    y = W[:, ~O] q(x[:, ~O]) + b + x[:, O] W[:, O]ᵀ

The second product is float and has |O| columns. Instead of cutting the tensor, W[:, O] is set to zero in the
integer weight and the quantizer, whose range leaves O out, clips those units.

Source: section 3.1 of LLM.int8() (Dettmers et al. 2022), which splits outlier columns dynamically; here they
are fixed at calibration.
"""

from collections.abc import Collection

import torch
from pydantic import Field
from torch import Tensor, fx

from quant.graph.nodes import NO_ROLE, constant_name, tensor_of
from quant.graph.parameters import add_constant, update_parameter
from quant.methods.gelu_linear import GeluLinear, find_gelu_linears
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.statistics import ChannelRange, Statistics
from quant.recipe import Recipe

__all__ = ["CLIPPED_UNITS", "OutlierSidePath", "OutlierSidePathOptions"]

aten = torch.ops.aten
NAME = "outlier_side_path"
CLIPPED_UNITS = "octavo_clipped_units"
"""Key in the meta of a linear node: the input channels its quantizer leaves out of the range."""


class OutlierSidePathOptions(MethodOptions):
    """Options.

    Attributes:
        threshold: how many times the median range makes a unit an outlier.
        most: where more units than this share of all stand out, the layer is left alone.
    """

    threshold: float = Field(default=4.0, gt=1.0)
    most: float = Field(default=0.05, gt=0.0, le=1.0)


@register_method(NAME, OutlierSidePathOptions)
class OutlierSidePath:
    """The method, see the module's text."""

    def __init__(self, options: OutlierSidePathOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """Every GELU in front of a linear layer."""
        return [found.gelu for found in find_gelu_linears(graph)]

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Give a side path to each quantized layer that has outliers."""
        notes = []
        for found in find_gelu_linears(graph):
            if recipe.spec_for("linear.input", found.layer) is None:
                continue
            units = self._outliers(seen[found.gelu])
            reason: str | None
            if found.reason is None and not units:
                reason = f"no unit beyond {self._options.threshold:g} times the median"
            elif len(units) > self._options.most * len(seen[found.gelu].low):
                reason = f"{len(units)} units stand out, too many for a side path"
            else:
                reason = found.reason
            if reason is None:
                _split(graph, found, units)
                peak = float(seen[found.gelu].amax.max())
                reason = f"units {', '.join(map(str, units))} (up to {peak:.1f}) computed in float"
                notes.append(MethodNote(NAME, found.layer, True, reason))
            else:
                notes.append(MethodNote(NAME, found.layer, False, reason))
        graph.graph.lint()
        graph.recompile()
        return notes

    def _outliers(self, seen: ChannelRange) -> list[int]:
        amax = seen.amax  # m_c [C]
        found = (amax > self._options.threshold * amax.median()).nonzero().flatten()
        return [int(c) for c in found]


def _split(graph: fx.GraphModule, found: GeluLinear, units: list[int]) -> None:
    linear, x = found.linear, found.gelu
    weight = tensor_of(graph, str(constant_name(linear.args[1])))  # [O, C]
    columns = weight[:, units].detach().T.clone()  # [r, O]

    def without_units(w: Tensor) -> Tensor:
        w = w.clone()
        w[:, units] = 0.0
        return w

    update_parameter(graph, linear.args[1], without_units)
    after = linear.next
    index = add_constant(graph, f"{found.layer}.side_units", torch.tensor(units), after)
    side_weight = add_constant(graph, f"{found.layer}.side_weight", columns, after)

    def call(target: object, *args: object) -> fx.Node:
        node = graph.graph.call_function(target, args)  # type: ignore[arg-type]
        node.meta["nn_module_stack"] = linear.meta.get("nn_module_stack", {})
        node.meta[NO_ROLE] = True
        values = (a.meta["val"] if isinstance(a, fx.Node) else a for a in args)
        node.meta["val"] = target(*values)  # type: ignore[operator]
        return node

    readers = list(linear.users)
    with graph.graph.inserting_before(after):
        picked = call(aten.index_select.default, x, x.meta["val"].ndim - 1, index)  # [..., r]
        side = call(aten.matmul.default, picked, side_weight)
        total = call(aten.add.Tensor, linear, side)
    for reader in readers:
        reader.replace_input_with(linear, total)
    linear.meta[CLIPPED_UNITS] = tuple(units)
