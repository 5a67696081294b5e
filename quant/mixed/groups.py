"""Groups: the layers that get one width together."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import fx

from quant.calibrated import CalibratedGraph
from quant.graph.nodes import is_call, layer_name, shape_of
from quant.placement import Site
from quant.roles import is_patch_conv

__all__ = ["Group", "find_groups"]

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Group:
    """A layer with its weight and input, or several layers that read one quantized tensor.

    Attributes:
        name: the layer's name, or several joined by `` + ``.
        layers: names, in the order of execution.
        nodes: the calls of the layers.
        sites: the fake-quant layers that change their width.
        places: (layer, role) of everything those sites serve, for a recipe's overrides.
        weights: number of weights.
    """

    name: str
    layers: tuple[str, ...]
    nodes: tuple[fx.Node, ...]
    sites: tuple[Site, ...]
    places: tuple[tuple[str, str], ...]
    weights: int


def find_groups(calibrated: CalibratedGraph, weights_only: bool = False) -> list[Group]:
    """The groups of a graph, in the order of execution.

    Attention products, shortcuts and whatever else has no weight keep the format of the recipe.

    Args:
        calibrated: a calibrated graph.
        weights_only: leave the inputs as they are; then layers that share an input are not tied.
    """
    by_node = {site.node: site for site in calibrated.sites}
    parts: list[tuple[set[object], list[fx.Node]]] = []  # what ties layers together, and the layers
    for node in calibrated.graph.graph.nodes:
        if not is_call(node, aten.linear.default, aten.conv2d.default) or node.args[1] not in by_node:
            continue
        keys: set[object] = {layer_name_of(node), by_node[node.args[1]]}
        if not weights_only and node.args[0] in by_node:
            keys.add(by_node[node.args[0]])
        nodes = [node]
        for part in [p for p in parts if p[0] & keys]:
            parts.remove(part)
            keys |= part[0]
            nodes = [*part[1], *nodes]
        parts.append((keys, nodes))
    order = {node: i for i, node in enumerate(calibrated.graph.graph.nodes)}
    parts.sort(key=lambda part: min(order[node] for node in part[1]))
    return [_group([k for k in keys if isinstance(k, Site)], nodes) for keys, nodes in parts]


def layer_name_of(node: fx.Node) -> str:
    """The layer's name, seen through the fake-quant layer in front of its weight."""
    weight = node.args[1]
    while isinstance(weight, fx.Node) and weight.op == "call_module":
        weight = weight.args[0]
    assert isinstance(weight, fx.Node)
    return str(weight.target).rpartition(".")[0] or layer_name(node)


def _group(sites: list[Site], nodes: list[fx.Node]) -> Group:
    layers = tuple(dict.fromkeys(layer_name_of(node) for node in nodes))
    sites.sort(key=lambda site: site.name)
    places = dict.fromkeys(place for site in sites for place in _places(site, nodes))
    weights = {site.node: prod(shape_of(site.node.args[0])) for site in sites if site.is_weight}
    return Group(" + ".join(layers), layers, tuple(nodes), tuple(sites), tuple(places), sum(weights.values()))


def _places(site: Site, nodes: list[fx.Node]) -> Iterator[tuple[str, str]]:
    """Who reads the site, and the layer in front of it where its output is the same tensor."""
    if site.role.endswith(".output"):
        yield site.layer, site.role
    for node in nodes:
        if is_call(node, aten.linear.default):
            kind = "linear"
        else:
            kind = "patch_conv" if is_patch_conv(node) else "conv"
        for end, source in zip(("input", "weight"), node.args[:2], strict=True):
            if source is site.node:
                yield layer_name_of(node), f"{kind}.{end}"
