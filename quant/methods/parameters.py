"""Change and add parameters of a captured graph."""

from collections.abc import Callable

from torch import Tensor, fx, nn

from quant.graph.nodes import constant_name, tensor_of

__all__ = ["add_constant", "is_private", "update_parameter"]


def update_parameter(graph: fx.GraphModule, node: object, change: Callable[[Tensor], Tensor]) -> None:
    """Replace the parameter that ``node`` reads by ``change`` of it, computed in float64, rounded once."""
    name = str(constant_name(node))
    owner, _, leaf = name.rpartition(".")
    new = change(tensor_of(graph, name).double()).float()
    setattr(graph.get_submodule(owner), leaf, nn.Parameter(new, requires_grad=False))


def add_constant(graph: fx.GraphModule, name: str, value: Tensor, before: fx.Node) -> fx.Node:
    """Register ``value`` as a buffer called ``name`` and return a node in front of ``before`` that reads it."""
    owner, _, leaf = name.rpartition(".")
    if owner:
        graph.add_submodule(owner, _existing(graph, owner))
    graph.get_submodule(owner).register_buffer(leaf, value)
    with graph.graph.inserting_before(before):
        node = graph.graph.get_attr(name)
    node.meta["val"] = value
    return node


def is_private(graph: fx.GraphModule, node: object) -> bool:
    """Whether ``node`` reads a parameter that exactly one place of the graph reads."""
    name = constant_name(node)
    readers = [n for n in graph.graph.nodes if name is not None and constant_name(n) == name]
    return sum(len(n.users) for n in readers) == 1


def _existing(graph: fx.GraphModule, path: str) -> nn.Module:
    try:
        return graph.get_submodule(path)
    except AttributeError:
        return nn.Module()
