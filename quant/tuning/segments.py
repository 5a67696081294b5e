"""Cut a captured graph into blocks that one value enters and one value leaves."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, is_call

__all__ = ["Segment", "block_of", "cut_points", "segment_between", "segments"]

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Segment:
    """A block.

    Attributes:
        name: such as ``blocks.3``.
        start: the node whose value enters.
        end: the node whose value leaves.
    """

    name: str
    start: fx.Node
    end: fx.Node


def cut_points(graph: fx.GraphModule) -> list[fx.Node]:
    """The nodes behind which their own value is all that the rest of the graph reads, in order.

    Parameters and what is computed from them alone do not count, nor does the number of images, which every
    value with as many rows tells as well as the input does.
    """
    nodes = list(graph.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    sizes = [node for node in nodes if _is_batch_size(node)]
    constant = _constants(nodes) | set(sizes)
    last_read = {n: max((position[u] for u in n.users), default=-1) for n in nodes if n not in constant}
    live: set[fx.Node] = set()
    found = []
    for i, node in enumerate(nodes):
        if node in constant or node.op == "output":
            continue
        live.add(node)
        live = {n for n in live if last_read[n] > i}
        if live == {node} and all(_has_rows(node, size) for size in sizes):
            found.append(node)
    return found


def segments(graph: fx.GraphModule, layers: dict[fx.Node, str], allowed: Collection[str]) -> list[Segment]:
    """The blocks that hold weight layers.

    Neighbouring stretches between cut points belong together when their layers are in the same block by name
    (:func:`block_of`).

    Args:
        graph: a captured graph, perhaps with fake-quant layers.
        layers: the weight layers' nodes with their names.
        allowed: names of the nodes where a block may begin or end.
    """
    cuts = [node for node in cut_points(graph) if node.name in allowed]
    found: list[Segment] = []
    nodes = list(graph.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    for start, end in pairwise(cuts):
        inside = [layers[n] for n in nodes[position[start] + 1 : position[end] + 1] if n in layers]
        if not inside:
            continue
        name = block_of(inside[0])
        if found and found[-1].name == name:
            found[-1] = Segment(name, found[-1].start, end)
        else:
            found.append(Segment(name, start, end))
    return found


def block_of(layer: str) -> str:
    """The name of the block a layer is in: its path up to the last number that is not its own.

    >>> [block_of(n) for n in ("layer1.0.conv2", "stages.2.blocks.1.mlp.fc1", "blocks.0.2", "head")]
    ['layer1.0', 'stages.2.blocks.1', 'blocks.0', 'head']
    """
    found = re.match(r".*\.\d+(?=\.|$)", layer.rpartition(".")[0])
    return found.group() if found else layer


def segment_between(graph: fx.GraphModule, start: fx.Node, end: fx.Node) -> fx.GraphModule:
    """What is computed from ``start`` to ``end`` as a graph of one input that shares all modules.

    ``start`` must be a cut point.
    """
    part = fx.Graph()
    nodes = list(graph.graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    needed = _needed(end, start)
    x = part.placeholder("x")
    copies: dict[fx.Node, fx.Node] = {start: x}
    for node in nodes[: position[end] + 1]:
        if node not in needed or node is start:
            continue
        if _is_batch_size(node):
            copies[node] = part.call_function(aten.sym_size.int, (x, 0))
        else:
            copies[node] = part.node_copy(node, lambda n: copies[n])
    part.output(copies[end])
    return fx.GraphModule(graph, part)


def _needed(end: fx.Node, start: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = {end}
    frontier = [end]
    while frontier:
        node = frontier.pop()
        if _is_batch_size(node):
            continue
        for source in node.all_input_nodes:
            if source not in found and source is not start:
                found.add(source)
                frontier.append(source)
    return found


def _constants(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for node in nodes:
        sources = node.all_input_nodes
        if constant_name(node) is not None or (sources and all(s in found for s in sources)):
            found.add(node)
    return found


def _is_batch_size(node: fx.Node) -> bool:
    """Whether a node is the number of images of the model's input."""
    if not is_call(node, aten.sym_size.int):
        return False
    source, axis = node.args
    return isinstance(source, fx.Node) and source.op == "placeholder" and bool(axis == 0)


def _has_rows(node: fx.Node, size: fx.Node) -> bool:
    """Whether a value has as many rows as ``size`` says, by the shapes found when the graph was captured."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.ndim > 0 and bool(value.shape[0] == size.meta.get("val"))
