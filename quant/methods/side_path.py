"""Compute a few input channels of a linear layer in float, beside the quantized product."""

import torch
from torch import Tensor, fx

from quant.graph.nodes import NO_ROLE, constant_name, layer_name, tensor_of
from quant.graph.parameters import add_constant, update_parameter
from quant.methods.statistics import ChannelRange

__all__ = ["CLIPPED_UNITS", "add_side_path", "outlying_units"]

aten = torch.ops.aten

CLIPPED_UNITS = "octavo_clipped_units"
"""Key in the meta of a linear node: the input channels its quantizer leaves out of the range."""


def outlying_units(seen: ChannelRange, threshold: float) -> list[int]:
    """The channels c with m_c > threshold · median_c(m_c), m_c = max |x_c|."""
    amax = seen.amax  # m_c [C]
    return [int(c) for c in (amax > threshold * amax.median()).nonzero().flatten()]


def add_side_path(graph: fx.GraphModule, linear: fx.Node, units: list[int]) -> None:
    """Compute ``units`` of a linear layer's input in float.

        y = W[:, ~O] x[:, ~O] + b + x[:, O] W[:, O]ᵀ

    Instead of cutting the tensor, W[:, O] is set to zero in the weight that is quantized, and the node's meta
    tells the quantizer of x to leave O out of its range.

    Args:
        graph: changed in place.
        linear: the node; its weight must be its own.
        units: O, input channels.
    """
    value = linear.args[0]
    assert isinstance(value, fx.Node)
    weight = tensor_of(graph, str(constant_name(linear.args[1])))  # [O, C]
    columns = weight[:, units].detach().T.clone()  # [r, O]

    def without_units(w: Tensor) -> Tensor:
        w = w.clone()
        w[:, units] = 0.0
        return w

    update_parameter(graph, linear.args[1], without_units)
    layer, after = layer_name(linear), linear.next
    index = add_constant(graph, f"{layer}.side_units", torch.tensor(units), after)
    side_weight = add_constant(graph, f"{layer}.side_weight", columns, after)

    def call(target: object, *args: object) -> fx.Node:
        node = graph.graph.call_function(target, args)  # type: ignore[arg-type]
        node.meta["nn_module_stack"] = linear.meta.get("nn_module_stack", {})
        node.meta[NO_ROLE] = True
        values = (a.meta["val"] if isinstance(a, fx.Node) else a for a in args)
        node.meta["val"] = target(*values)  # type: ignore[operator]
        return node

    readers = list(linear.users)
    with graph.graph.inserting_before(after):
        picked = call(aten.index_select.default, value, value.meta["val"].ndim - 1, index)  # [..., r]
        side = call(aten.matmul.default, picked, side_weight)
        total = call(aten.add.Tensor, linear, side)
    for reader in readers:
        reader.replace_input_with(linear, total)
    linear.meta[CLIPPED_UNITS] = tuple(units)
