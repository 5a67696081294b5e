"""Put an operator with constants between a value and the linear layer that reads it."""

from typing import Any

from torch import Tensor, fx

from quant.graph.nodes import layer_name
from quant.graph.parameters import add_constant
from quant.methods.statistics import ChannelRange, Statistics

__all__ = ["derive", "insert_in_front"]


def insert_in_front(graph: fx.GraphModule, linear: fx.Node, target: Any, **constants: Tensor) -> fx.Node:
    """Let a linear layer read ``target(x, *constants)`` instead of x; other readers of x keep x.

    Args:
        graph: changed in place; the caller recompiles it.
        linear: the linear layer's node.
        target: an operator that works on each element.
        constants: [C] or [], registered under these names beside the layer's weight.

    Returns:
        The new node.
    """
    value = linear.args[0]
    assert isinstance(value, fx.Node)
    layer = layer_name(linear)
    read = [add_constant(graph, f"{layer}.{name}", c, linear) for name, c in constants.items()]
    with graph.graph.inserting_before(linear):
        node = graph.graph.call_function(target, (value, *read))
    node.meta["nn_module_stack"] = linear.meta.get("nn_module_stack", {})
    node.meta["val"] = value.meta["val"]
    linear.update_arg(0, node)
    return node


def derive(seen: Statistics, new: fx.Node, old: fx.Node, scale: Tensor, shift: Tensor) -> None:
    """Tell that the value of ``new`` is ``scale · x + shift`` per channel, x that of ``old``, scale > 0."""
    if old in seen:
        seen[new] = ChannelRange(seen[old].low, seen[old].high)
    if old in seen.samples:
        seen.samples[new] = seen.samples[old]
    seen.rescale(new, scale, shift)
