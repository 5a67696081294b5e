"""Find a transformer's residual stream: who writes it, who reads it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from quant.graph.layer_norm_readers import linear_readers, reason_against_folding
from quant.graph.nodes import SHAPE_ONLY, constant_name, is_call, module_of, shape_of
from quant.graph.parameters import is_private

__all__ = ["ResidualStream", "find_stream"]

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class ResidualStream:
    """All values that additions and LayerNorms tie to one set of channels.

    Attributes:
        channels: how many.
        writers: linear layers and convolutions whose output channels they are.
        constants: parameters added or concatenated (positions, class token), with their channel axis.
        norms: the LayerNorms that read the stream, each with the linear layers behind it, its only readers.
    """

    channels: int
    writers: list[fx.Node]
    constants: list[tuple[fx.Node, int]]
    norms: list[tuple[fx.Node, list[fx.Node]]]


def find_stream(graph: fx.GraphModule) -> ResidualStream | str:
    """The stream that the last LayerNorm reads, or why there is none that could be changed as a whole."""
    norms = [n for n in graph.graph.nodes if is_call(n, aten.layer_norm.default)]
    if not norms:
        return "the model has no LayerNorm"
    source = norms[-1].args[0]
    assert isinstance(source, fx.Node)
    channels = shape_of(source)[-1]
    found: dict[fx.Node, int] = {}  # node to its channel axis
    reason = _grow(source, len(shape_of(source)) - 1, found)
    if reason is not None:
        return reason
    stream = ResidualStream(int(channels), [], [], [])
    for node, axis in sorted(found.items()):
        if constant_name(node) is not None:
            stream.constants.append((node, axis))
        elif is_call(node, aten.linear.default, aten.conv2d.default):
            stream.writers.append(node)
    for norm in norms:
        if norm.args[0] in found:
            linears = linear_readers(norm)
            reason = reason_against_folding(graph, norm, linears)
            if reason is not None:
                return reason
            stream.norms.append((norm, linears))
    parameters = [p for w in stream.writers for p in w.args[1:3] if p is not None]
    for parameter in [*parameters, *(node for node, _ in stream.constants)]:
        if not is_private(graph, parameter):
            return f"'{constant_name(parameter)}' is computed, or shared with another layer"
    return stream


def _grow(node: fx.Node, axis: int, found: dict[fx.Node, int]) -> str | None:
    """Add ``node`` and everything tied to its channels; a reason where that is not possible."""
    frontier = [(node, axis)]
    while frontier:
        node, axis = frontier.pop()
        if node in found:
            if found[node] != axis:
                return f"'{module_of(node) or node.name}' uses the stream along two axes"
            continue
        found[node] = axis
        sources = _sources(node, axis)
        if isinstance(sources, str):
            return sources
        frontier += sources
        for reader in node.users:
            if is_call(reader, aten.layer_norm.default):
                if axis != len(shape_of(node)) - 1 or len(reader.args[1]) != 1:  # type: ignore[arg-type]
                    return f"'{module_of(reader)}' normalizes other axes than the channels"
            elif reader not in found:
                moved = _reader_axis(reader, node, axis)
                if moved is None:
                    what = getattr(reader.target, "__name__", reader.target)
                    return f"'{module_of(reader) or reader.name}' ({what}) reads the stream itself"
                frontier.append((reader, moved))
    return None


def _sources(node: fx.Node, axis: int) -> list[tuple[fx.Node, int]] | str:
    """The values whose channels become those of ``node``; none for a writer."""
    last = len(shape_of(node)) - 1
    where = module_of(node) or node.name
    if constant_name(node) is not None:
        return []
    if is_call(node, aten.linear.default):
        return [] if axis == last else f"'{where}' writes the stream along another axis"
    if is_call(node, aten.conv2d.default):
        return [] if axis == 1 else f"'{where}' writes the stream along another axis"
    if is_call(node, aten.add.Tensor):
        return [(a, axis - last + len(shape_of(a)) - 1) for a in node.args[:2] if isinstance(a, fx.Node)]
    if is_call(node, aten.cat.default):
        dim = node.args[1] if len(node.args) > 1 else 0
        if int(dim) % (last + 1) == axis:  # type: ignore[arg-type]
            return f"'{where}' concatenates channels"
        return [(a, axis) for a in node.args[0]]  # type: ignore[union-attr, misc]
    if is_call(node, *SHAPE_ONLY):
        source = node.args[0]
        assert isinstance(source, fx.Node)
        for candidate in range(len(shape_of(source))):
            if moved_axis(node, candidate) == axis:
                return [(source, candidate)]
    return f"'{where}' ({getattr(node.target, '__name__', node.target)}) writes the stream"


def _reader_axis(reader: fx.Node, node: fx.Node, axis: int) -> int | None:
    """Where the channels of ``node`` are in the output of a reader that belongs to the stream."""
    if is_call(reader, aten.add.Tensor):
        return axis - len(shape_of(node)) + len(shape_of(reader))
    if is_call(reader, aten.cat.default):
        return axis
    return moved_axis(reader, axis) if is_call(reader, *SHAPE_ONLY) else None


def moved_axis(node: fx.Node, axis: int) -> int | None:
    """Where an axis of a shape-only operator's input is in its output; None where it is cut or merged."""
    before, after = shape_of(node.args[0]), shape_of(node)
    arguments: list[Any] = [*node.args[1:], None, None]
    rank = len(before)
    if is_call(node, aten.permute.default):
        order = [int(d) % rank for d in arguments[0]]
        return order.index(axis)
    if is_call(node, aten.transpose.int):
        first, second = (int(d) % rank for d in arguments[:2])
        return {first: second, second: first}.get(axis, axis)
    if is_call(node, aten.select.int):
        dim = int(arguments[0]) % rank
        return None if axis == dim else axis - int(dim < axis)
    if is_call(node, aten.slice.Tensor, aten.roll.default):
        return None if is_call(node, aten.roll.default) or int(arguments[0] or 0) % rank == axis else axis
    if len(before) == len(after) and str(before) == str(after):
        return axis
    # A reshape keeps the axis if its size is unchanged and as many elements lie behind it.
    tail = [str(d) for d in before[axis:]]
    for candidate, size in enumerate(after):
        if str(size) != str(before[axis]):
            continue
        if [str(d) for d in after[candidate:]] == tail or _count(after[candidate:]) == _count(before[axis:]):
            return candidate
    return None


def _count(sizes: tuple[Any, ...]) -> int | None:
    """How many elements, None where a size is symbolic."""
    total = 1
    for size in sizes:
        if not isinstance(size, int):
            return None
        total *= size
    return total
