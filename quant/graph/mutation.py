"""Write in-place operators (``relu_``, ``add_``) as the ones that return a new tensor."""

from typing import Any

import torch
from torch import fx

from quant.errors import Unsupported
from quant.graph.nodes import module_of

__all__ = ["remove_mutation"]


def remove_mutation(graph: fx.GraphModule) -> int:
    """Replace in-place operators, in place; later readers of the changed tensor read the new one.

    Watching or quantizing a value needs it to stay what it was when it was computed.

    Returns:
        How many were replaced.

    Raises:
        Unsupported: the changed tensor shares its memory with one that is read later, or the operator has
            no form that returns a new tensor; the message names the module.
    """
    position = {node: index for index, node in enumerate(graph.graph.nodes)}

    def later_readers(value: fx.Node, node: fx.Node) -> list[fx.Node]:
        return [user for user in value.users if position[user] > position[node]]

    changed = 0
    for node in list(graph.graph.nodes):
        if not _is_in_place(node):
            continue
        functional, target = _functional(node), node.args[0]
        if functional is None:
            raise Unsupported(f"'{module_of(node)}' uses the in-place operator {node.target}")
        if any(later_readers(other, node) for other in _aliases(target) if other is not target):
            raise Unsupported(
                f"'{module_of(node)}' writes with {node.target} into a view of a tensor that is read again "
                "later; write it without changing tensors in place"
            )
        node.target = functional
        for user in later_readers(target, node):
            user.replace_input_with(target, node)
        changed += 1
    graph.graph.lint()
    graph.recompile()
    return changed


def _is_in_place(node: fx.Node) -> bool:
    return (
        node.op == "call_function"
        and isinstance(node.target, torch._ops.OpOverload)
        and node.target._schema.is_mutable
    )


def _functional(node: fx.Node) -> Any:
    """The operator without the trailing underscore, of the same overload."""
    packet, _, overload = str(node.target).removeprefix("aten.").rpartition(".")
    return getattr(getattr(torch.ops.aten, packet.removesuffix("_"), None), overload, None)


def _aliases(node: fx.Node) -> list[fx.Node]:
    """All values that may share memory with ``node``, itself included."""
    while _is_view(node):
        node = node.args[0]  # type: ignore[assignment]
    found = [node]
    for value in found:
        found.extend(user for user in value.users if _is_view(user) and user.args[0] is value)
    return found


def _is_view(node: fx.Node) -> bool:
    """Whether the schema says that the result may be a view of the first argument."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    returns = node.target._schema.returns
    alias = returns[0].alias_info if returns else None
    return alias is not None and not alias.is_write
