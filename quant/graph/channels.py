"""Follow the channels of a linear layer through operators that only move values.

The operators are run on the numbers of the channels instead of on values, so every view, permutation and
split of a fused projection is followed exactly as it is executed.
"""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from quant.graph.nodes import SHAPE_ONLY, is_call, shape_of, through

__all__ = ["Path", "channels_behind", "channels_of", "concrete", "sinks"]

aten = torch.ops.aten

_PARTS = (
    aten.unbind.int,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.chunk.default,
    operator.getitem,
)

Path = tuple[fx.Node, Tensor]
"""A node, and for every element of its value the number of the channel (int64, the value's traced shape)."""


def channels_of(value: fx.Node) -> Path | None:
    """Where a value comes from.

    Args:
        value: a node.

    Returns:
        The linear layer of which ``value`` is a rearrangement, scaled by a number at most, and for every
        element of ``value`` the output channel of that layer. None where something else computes it.
    """
    *chain, source = through(value, _moves)
    if not is_call(source, aten.linear.default):
        return None
    shape = _size(shape_of(source))
    channels: Any = torch.arange(shape[-1]).expand(shape).contiguous()
    for node in reversed(chain):
        channels = _run(node, channels)
    return (source, channels) if isinstance(channels, Tensor) else None


def channels_behind(value: fx.Node, channels: Tensor) -> list[Path] | None:
    """The linear layers that read a value, at most rearranged.

    Args:
        value: a node.
        channels: the number of the channel for each element of its value.

    Returns:
        Each layer with the numbers [C] of the channels that its input's last axis holds. None where something
        else reads the value, or where the last axis of an input mixes channels.
    """
    found = []
    frontier: list[tuple[fx.Node, Any]] = [(user, channels) for user in value.users]
    while frontier:
        node, moved = frontier.pop()
        if is_call(node, aten.linear.default):
            flat = moved.reshape(-1, moved.shape[-1])
            if not bool((flat == flat[0]).all()):
                return None
            found.append((node, flat[0]))
        elif is_call(node, *SHAPE_ONLY):
            frontier += [(user, _run(node, moved)) for user in node.users]
        else:
            return None
    return sorted(found, key=lambda pair: pair[0])


def sinks(source: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Who really reads a value: pairs (reader, what it reads), skipping what only rearranges it."""
    for user in source.users:
        if _moves(user):
            yield from sinks(user)
        else:
            yield user, source


def _moves(node: fx.Node) -> bool:
    if is_call(node, aten.mul.Tensor, aten.div.Tensor):
        return not isinstance(node.args[1], fx.Node)
    return is_call(node, *SHAPE_ONLY, *_PARTS)


def _run(node: fx.Node, channels: Any) -> Any:
    if is_call(node, aten.mul.Tensor, aten.div.Tensor):
        return channels
    arguments = fx.node.map_arg(node.args[1:], lambda n: concrete(n.meta["val"]))
    return node.target(channels, *arguments, **node.kwargs)  # type: ignore[operator]


def _size(shape: tuple[Any, ...]) -> list[int]:
    return [concrete(size) for size in shape]


def concrete(size: Any) -> int:
    """A size; a dynamic one as it was when the graph was captured."""
    return int(str(size.node.hint)) if isinstance(size, torch.SymInt) else int(size)
