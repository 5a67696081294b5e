"""Find the linear layers that a LayerNorm alone feeds, and whether parameters can be folded between them."""

from typing import Any

import torch
from torch import fx

from quant.graph.nodes import SHAPE_ONLY, constant_name, is_call, module_of, shape_of
from quant.graph.parameters import is_private

__all__ = ["linear_readers", "reason_against_folding"]

aten = torch.ops.aten


def linear_readers(norm: fx.Node) -> list[fx.Node]:
    """The linear layers behind ``norm``, empty unless they are its only readers."""
    found: list[fx.Node] = []
    frontier = list(norm.users)
    while frontier:
        node = frontier.pop()
        if is_call(node, aten.linear.default):
            found.append(node)
        elif _keeps_channels(node):
            frontier.extend(node.users)
        else:
            return []
    return sorted(found)


def reason_against_folding(graph: fx.GraphModule, norm: fx.Node, linears: list[fx.Node]) -> str | None:
    """Why nothing can be folded from a LayerNorm into the linear layers behind it, or None."""
    if not linears:
        return "something other than linear layers reads it"
    if len(norm.args[1]) != 1:  # type: ignore[arg-type]
        return "it normalizes more than the last axis"
    for node, parameters in ((norm, norm.args[2:4]), *((linear, linear.args[1:3]) for linear in linears)):
        if len(parameters) != 2 or None in map(constant_name, parameters):
            return f"'{module_of(node)}' has no weight or no bias to fold into"
        for parameter in parameters:
            if not is_private(graph, parameter):
                return f"'{constant_name(parameter)}' is shared with another layer"
    return None


def _keeps_channels(node: fx.Node) -> bool:
    """Whether a shape-only operator leaves the last axis whole and in place."""
    if not is_call(node, *SHAPE_ONLY):
        return False
    before, after = shape_of(node.args[0]), shape_of(node)
    if not before or not after or str(before[-1]) != str(after[-1]):
        return False
    arguments: list[Any] = [*node.args, None, None]
    last = len(before) - 1
    if is_call(node, aten.permute.default):
        return bool(arguments[1][-1] % len(before) == last)
    if is_call(node, aten.transpose.int):
        moved = arguments[1:3]
    elif is_call(node, aten.roll.default):
        moved = arguments[2] or [last]  # without dimensions it rolls the flattened tensor
    elif is_call(node, aten.slice.Tensor, aten.select.int):
        moved = [arguments[1] or 0]
    else:
        return True
    return all(dim % len(before) != last for dim in moved)
