"""The blocks of a calibrated graph, and where its float reference has the same."""

from torch import fx

from quant.graph.nodes import layer_name
from quant.tuning.model import Tuning
from quant.tuning.segments import Segment, segments

__all__ = ["blocks_of", "twin"]


def blocks_of(tuning: Tuning) -> list[Segment]:
    """The blocks that hold quantized weights, in order, cut where the float reference can be cut, too."""
    layers = {
        reader: layer_name(twin(tuning, reader))
        for site in tuning.sites
        if site.is_weight
        for reader in site.node.users
    }
    return segments(tuning.graph, layers, {node.name for node in tuning.reference.graph.nodes})


def twin(tuning: Tuning, node: fx.Node) -> fx.Node:
    """The node of the same name in the float reference."""
    found: fx.Node = next(n for n in tuning.reference.graph.nodes if n.name == node.name)
    return found
