"""Small questions about the nodes of a captured graph."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx

__all__ = [
    "NO_ROLE",
    "SHAPE_ONLY",
    "constant_name",
    "is_call",
    "layer_name",
    "module_of",
    "shape_of",
    "tensor_of",
    "through",
]

aten = torch.ops.aten

NO_ROLE = "octavo_no_role"
"""Key in the meta of a node that a method added and no recipe addresses."""

SHAPE_ONLY: frozenset[Any] = frozenset(
    {
        aten.alias.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.detach.default,
        aten.dropout.default,
        aten.expand.default,
        aten.flatten.using_ints,
        aten.permute.default,
        aten.reshape.default,
        aten.roll.default,
        aten.select.int,
        aten.slice.Tensor,
        aten.squeeze.dim,
        aten.transpose.int,
        aten.unflatten.int,
        aten.unsqueeze.default,
        aten.view.default,
    }
)
"""Operators that move values without changing them."""


def is_call(node: Any, *targets: Any) -> bool:
    """Whether ``node`` calls one of ``targets``."""
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets


def module_of(node: fx.Node) -> str:
    """The dotted name of the module that issued ``node``, such as ``blocks.7.mlp.fc2``; '' for the root."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return ""
    path, _ = list(stack.values())[-1]
    return str(path).partition("@")[0]


def constant_name(node: Any) -> str | None:
    """The dotted name of the parameter or buffer that ``node`` reads, or None for a computed value."""
    if isinstance(node, fx.Node) and node.op == "get_attr":
        return str(node.target)
    return None


def tensor_of(graph: fx.GraphModule, name: str) -> Tensor:
    """The parameter or buffer called ``name``."""
    owner, _, leaf = name.rpartition(".")
    value: Tensor = getattr(graph.get_submodule(owner), leaf)
    return value


def layer_name(node: fx.Node) -> str:
    """The name of a layer: where its weight lives, else the module that issued it.

    ``blocks.0.attn.qkv.weight`` gives ``blocks.0.attn.qkv``, also where a functional call inside another
    module uses that weight.
    """
    weight = constant_name(node.args[1]) if len(node.args) > 1 else None
    owner = (weight or "").rpartition(".")[0]
    return owner or module_of(node) or node.name


def shape_of(node: Any) -> tuple[Any, ...]:
    """The traced shape of a value; a dynamic size is symbolic. Empty where it is unknown."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def through(node: fx.Node, passes: Callable[[fx.Node], bool]) -> Iterator[fx.Node]:
    """``node`` and its first-argument ancestors for as long as ``passes`` holds, the first refusal last."""
    yield node
    while passes(node) and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
        yield node
