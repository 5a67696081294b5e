"""Change and add parameters of a captured graph."""

from collections.abc import Callable

from torch import Tensor, fx, nn

from quant.graph.nodes import constant_name, tensor_of

__all__ = ["add_constant", "is_private", "set_parameter", "update_parameter"]


def set_parameter(graph: fx.GraphModule, name: str, value: Tensor) -> None:
    """Make ``value`` the parameter called ``name``; its module must exist."""
    owner, _, leaf = name.rpartition(".")
    setattr(graph.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))


def update_parameter(graph: fx.GraphModule, node: object, change: Callable[[Tensor], Tensor]) -> None:
    """Replace the parameter that ``node`` reads by ``change`` of it, computed in float64, rounded once."""
    name = str(constant_name(node))
    old = tensor_of(graph, name)
    set_parameter(graph, name, change(old.detach().double()).to(old.dtype))


def add_constant(graph: fx.GraphModule, name: str, value: Tensor, before: fx.Node) -> fx.Node:
    """Register a buffer and return a node that reads it.

    Args:
        graph: changed in place.
        name: the buffer's dotted name; a number is appended where it is taken.
        value: the buffer.
        before: the new node is put in front of this one.
    """
    path, _, leaf = name.rpartition(".")
    owner = _module_at(graph, path)
    count = 1
    while hasattr(owner, free := leaf if count == 1 else f"{leaf}_{count}"):
        count += 1
    owner.register_buffer(free, value)
    with graph.graph.inserting_before(before):
        node = graph.graph.get_attr(f"{path}.{free}" if path else free)
    node.meta["val"] = value
    return node


def is_private(graph: fx.GraphModule, node: object) -> bool:
    """Whether ``node`` reads a parameter that exactly one place of the graph reads."""
    name = constant_name(node)
    readers = [n for n in graph.graph.nodes if name is not None and constant_name(n) == name]
    return sum(len(n.users) for n in readers) == 1


def _module_at(graph: fx.GraphModule, path: str) -> nn.Module:
    """The submodule, made if there is none."""
    try:
        return graph.get_submodule(path)
    except AttributeError:
        graph.add_submodule(path, nn.Module())
        return graph.get_submodule(path)
