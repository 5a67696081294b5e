"""Write in-place operators (``relu_``, ``add_``) as the ones that return a new tensor."""

from typing import Any

import torch
from torch import fx

__all__ = ["remove_mutation"]


def remove_mutation(graph: fx.GraphModule) -> int:
    """Replace in-place operators, in place; later readers of the changed tensor read the new one.

    Watching or quantizing a value needs it to stay what it was when it was computed.

    Returns:
        How many were replaced.
    """
    position = {node: index for index, node in enumerate(graph.graph.nodes)}
    changed = 0
    for node in list(graph.graph.nodes):
        functional = _functional(node)
        if functional is None:
            continue
        target = node.args[0]
        node.target = functional
        for user in list(target.users):
            if position[user] > position[node]:
                user.replace_input_with(target, node)
        changed += 1
    graph.graph.lint()
    graph.recompile()
    return changed


def _functional(node: fx.Node) -> Any:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return None
    packet = node.target._schema.name.split("::")[1]
    if not packet.endswith("_") or packet.endswith("__"):
        return None
    twin = getattr(torch.ops.aten, packet[:-1], None)
    return getattr(twin, node.target._overloadname, None)
