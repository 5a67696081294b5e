"""Units: the layers that can only be quantized, or left in float, together.

Layers that read one quantized tensor share its codes; so does a convolution that writes codes for the next
one. An integer kernel needs the codes at both of its ends, so a chain that is broken anywhere runs in float
as a whole.
"""

from math import prod

from torch import fx

from quant.calibrated import CalibratedGraph
from quant.graph.nodes import shape_of
from quant.mixed.groups import Group
from quant.placement import Site
from quant.roles import ROLES

__all__ = ["find_units"]

_OPERANDS = tuple(role for role in ROLES if role.endswith((".input", ".weight")))


def find_units(calibrated: CalibratedGraph) -> list[Group]:
    """The units of a graph, in the order of execution; everything that is quantized is in one of them.

    Args:
        calibrated: a calibrated graph.

    Returns:
        Groups of whole layers with all their sites, outputs included. Without weights are those that only
        multiply or add activations, such as attention products.
    """
    sites = {site.node: site for site in calibrated.sites}
    parts: list[tuple[set[Site], set[fx.Node]]] = []
    for node in calibrated.graph.graph.nodes:
        read = {sites[a] for a in node.all_input_nodes if a in sites}
        tied = [read] if any(map(_is_operand, read)) else [{site} for site in read]
        for together in tied:
            _merge(parts, together, node)
    order = {node: index for index, node in enumerate(calibrated.graph.graph.nodes)}
    units = [_unit(read, nodes, order) for read, nodes in parts]
    return sorted(units, key=lambda unit: order[unit.nodes[0]])


def _is_operand(site: Site) -> bool:
    """Whether a reader asked for these codes; else only the layer that writes them did."""
    return any(role in ("softmax.output", *_OPERANDS) for role in site.roles)


def _merge(parts: list[tuple[set[Site], set[fx.Node]]], sites: set[Site], node: fx.Node) -> None:
    """Add sites that a node reads, joined with what shares a site or a layer with them."""
    if not sites:
        return
    layers, nodes = {site.layer for site in sites}, {node}
    for part in [p for p in parts if p[0] & sites or layers & {site.layer for site in p[0]}]:
        parts.remove(part)
        sites, nodes = sites | part[0], nodes | part[1]
    parts.append((sites, nodes))


def _unit(sites: set[Site], nodes: set[fx.Node], order: dict[fx.Node, int]) -> Group:
    ordered = sorted(sites, key=lambda site: order[site.node])
    layers = tuple(dict.fromkeys(site.layer for site in ordered))
    weights = sum(prod(shape_of(site.node)) for site in ordered if site.is_weight)
    return Group(
        name=" + ".join(layers),
        layers=layers,
        nodes=tuple(sorted(nodes, key=order.__getitem__)),
        sites=tuple(ordered),
        places=tuple((site.layer, role) for site in ordered for role in site.roles),
        weights=weights,
        parameters=weights,
    )
