"""Find the linear layers that read a GELU (fc2 of a transformer's MLP)."""

from dataclasses import dataclass

import torch
from torch import fx

from quant.graph.nodes import NO_ROLE, constant_name, is_call, layer_name, through
from quant.graph.parameters import is_private

__all__ = ["GeluLinear", "find_gelu_linears"]

aten = torch.ops.aten

_PER_CHANNEL = (aten.mul.Tensor, aten.sub.Tensor, aten.clamp.Tensor)


@dataclass(frozen=True, eq=False)
class GeluLinear:
    """A GELU and the linear layer behind it.

    Attributes:
        layer: the linear layer's name.
        gelu: the node whose output [..., C] it reads: the GELU, or what other methods have put behind it.
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
        if not is_call(node, aten.linear.default) or not isinstance(value := node.args[0], fx.Node):
            continue
        *_, source = through(value, _by_constants)
        if is_call(source, aten.gelu.default):
            reason = None
            if not is_private(graph, node.args[1]):
                reason = "its weight is computed, or shared with another layer"
            elif any(user is not node and NO_ROLE not in user.meta for user in value.users):
                reason = "something else also reads the GELU in front of it"
            found.append(GeluLinear(layer_name(node), value, node, reason))
    return found


def _by_constants(node: fx.Node) -> bool:
    return is_call(node, *_PER_CHANNEL) and all(constant_name(n) for n in node.all_input_nodes[1:])
