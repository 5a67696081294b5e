"""Find the linear layers that read a GELU (fc2 of a transformer's MLP)."""

from dataclasses import dataclass

import torch
from torch import fx

from quant.graph.nodes import is_call, layer_name
from quant.graph.parameters import is_private

__all__ = ["GeluLinear", "find_gelu_linears"]

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class GeluLinear:
    """A GELU and the linear layer behind it.

    Attributes:
        layer: the linear layer's name.
        gelu: the node whose output [..., C] it reads.
        linear: its node; the weight is [O, C].
        reason: why its weight cannot be changed, or None.
    """

    layer: str
    gelu: fx.Node
    linear: fx.Node
    reason: str | None


def find_gelu_linears(graph: fx.GraphModule) -> list[GeluLinear]:
    """All of them, in the order of execution."""
    found = []
    for node in graph.graph.nodes:
        if is_call(node, aten.linear.default) and is_call(node.args[0], aten.gelu.default):
            reason = None
            if not is_private(graph, node.args[1]):
                reason = "its weight is computed, or shared with another layer"
            elif len(node.args[0].users) != 1:
                reason = "something else also reads the GELU in front of it"
            found.append(GeluLinear(layer_name(node), node.args[0], node, reason))
    return found
