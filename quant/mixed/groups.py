"""Groups: the tensors that get one width together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import fx

from quant.calibrated import CalibratedGraph
from quant.graph.nodes import is_call, layer_name, shape_of
from quant.mixed.settings import Operands
from quant.placement import Site
from quant.roles import is_patch_conv

__all__ = ["Group", "find_groups"]

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Group:
    """The weight and input of a layer, or one of them; of several layers where these share a tensor.

    Attributes:
        name: the layer's name, or the tensor's where weight and input are separate; several joined by
            `` + ``.
        layers: names, in the order of execution.
        nodes: the calls of the layers.
        sites: the fake-quant layers that change their width.
        places: (layer, role) of everything those sites serve, for a recipe's overrides.
        weights: number of weights whose width changes.
        parameters: number of weights of the layers.
    """

    name: str
    layers: tuple[str, ...]
    nodes: tuple[fx.Node, ...]
    sites: tuple[Site, ...]
    places: tuple[tuple[str, str], ...]
    weights: int
    parameters: int


def find_groups(calibrated: CalibratedGraph, operands: Operands = Operands.TOGETHER) -> list[Group]:
    """The groups of a graph, in the order of execution.

    Attention products, shortcuts and whatever else has no weight keep the format of the recipe.

    Args:
        calibrated: a calibrated graph.
        operands: what gets a width.
    """
    sites = {site.node: site for site in calibrated.sites}
    layers = [
        node
        for node in calibrated.graph.graph.nodes
        if is_call(node, aten.linear.default, aten.conv2d.default) and node.args[1] in sites
    ]

    def of(*positions: int) -> Callable[[fx.Node], list[Site]]:
        """The sites among some arguments of a layer: 0 is its input, 1 its weight."""
        return lambda node: [
            sites[a] for i in positions if isinstance(a := node.args[i], fx.Node) and a in sites
        ]

    if operands is Operands.TOGETHER:
        return _tied(layers, of(0, 1), named_by_site=False)
    if operands is Operands.WEIGHTS:
        return _tied(layers, of(1), named_by_site=False)
    groups = [*_tied(layers, of(0), named_by_site=True), *_tied(layers, of(1), named_by_site=True)]
    order = {node: index for index, node in enumerate(layers)}
    return sorted(groups, key=lambda group: order[group.nodes[0]])


def _tied(
    layers: list[fx.Node], sites_of: Callable[[fx.Node], list[Site]], named_by_site: bool
) -> list[Group]:
    """Layers that share a site, and all calls of a layer, which have one name and so one override."""
    parts: list[tuple[set[object], list[fx.Node]]] = []  # what ties layers together, and the layers
    for node in layers:
        if not sites_of(node):
            continue
        keys: set[object] = {layer_name_of(node), *sites_of(node)}
        nodes = [node]
        for part in [p for p in parts if p[0] & keys]:
            parts.remove(part)
            keys |= part[0]
            nodes = [*part[1], *nodes]
        parts.append((keys, sorted(nodes, key=layers.index)))
    parts.sort(key=lambda part: layers.index(part[1][0]))
    return [_group([k for k in keys if isinstance(k, Site)], nodes, named_by_site) for keys, nodes in parts]


def layer_name_of(node: fx.Node) -> str:
    """The layer's name, seen through the fake-quant layer in front of its weight."""
    weight = node.args[1]
    while isinstance(weight, fx.Node) and weight.op == "call_module":
        weight = weight.args[0]
    assert isinstance(weight, fx.Node)
    return str(weight.target).rpartition(".")[0] or layer_name(node)


def _group(sites: list[Site], nodes: list[fx.Node], named_by_site: bool) -> Group:
    layers = tuple(dict.fromkeys(layer_name_of(node) for node in nodes))
    sites.sort(key=lambda site: site.name)
    places = dict.fromkeys(place for site in sites for place in _places(site, nodes))
    sizes = {node.args[1]: prod(shape_of(node.args[1])) for node in nodes}
    return Group(
        name=" + ".join(site.name for site in sites) if named_by_site else " + ".join(layers),
        layers=layers,
        nodes=tuple(nodes),
        sites=tuple(sites),
        places=tuple(places),
        weights=sum(sizes[site.node] for site in sites if site.is_weight),
        parameters=sum(sizes.values()),
    )


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
