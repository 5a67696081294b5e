"""A transformer's MLP in a captured graph, fc1 → GELU → fc2, as one function."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from quant.graph.nodes import NO_ROLE, constant_name, is_call, tensor_of
from quant.graph.parameters import is_private, set_parameter
from quant.methods.gelu_linear import GeluLinear
from quant.methods.side_path import CLIPPED_UNITS
from quant.tuning.segments import cut_points

__all__ = ["GeluMlp", "MlpPlace", "MlpWeights", "find_mlp"]

aten = torch.ops.aten

MlpWeights = dict[str, Tensor]
"""``weight1`` [H, I], ``bias1`` [H], ``weight2`` [O, H], ``bias2`` [O]; no entry where there is no bias."""


class GeluMlp(nn.Module):
    """y = W2 GELU(W1 x + b1) + b2, with weights that nothing trains."""

    def __init__(self, weights: MlpWeights, approximate: str) -> None:
        """Take the weights as they are, and GELU's option of that name."""
        super().__init__()
        for key, value in weights.items():
            self.register_buffer(key, value)
        self._approximate = approximate

    @property
    def weights(self) -> MlpWeights:
        """The weights."""
        return dict(self.named_buffers())

    def run(self, weights: MlpWeights, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """An MLP of this form with other weights and another activation on ``x`` [..., I]."""
        hidden = activation(functional.linear(x, weights["weight1"], weights.get("bias1")))
        return functional.linear(hidden, weights["weight2"], weights.get("bias2"))

    def forward(self, x: Tensor) -> Tensor:
        """The MLP on [..., I]."""
        return self.run(self.weights, x, lambda z: functional.gelu(z, approximate=self._approximate))


@dataclass(frozen=True, eq=False)
class MlpPlace:
    """The nodes of an MLP.

    Attributes:
        source: the node that fc1 reads.
        first: fc1.
        gelu: GELU.
        second: fc2.
        output: :attr:`second`, or its sum with a side path.
    """

    source: fx.Node
    first: fx.Node
    gelu: fx.Node
    second: fx.Node
    output: fx.Node

    @property
    def _side_weight(self) -> str | None:
        """The name of the side path's weight [r, O]."""
        if self.output is self.second:
            return None
        product = self.output.args[1]
        assert isinstance(product, fx.Node)
        return constant_name(product.args[1])

    def weights(self, graph: fx.GraphModule) -> MlpWeights:
        """What the MLP multiplies by; a side path's weights stand in their columns of ``weight2``."""
        found = {key: tensor_of(graph, name).detach() for key, name in self._names().items()}
        if self._side_weight is not None:
            columns = tensor_of(graph, self._side_weight)
            found["weight2"] = found["weight2"].index_copy(1, self._units(), columns.T)
        return found

    def set_weights(self, graph: fx.GraphModule, weights: MlpWeights) -> None:
        """Give the MLP other weights, those of a side path's units to the side path."""
        weights = dict(weights)
        if self._side_weight is not None:
            units = self._units()
            owner, _, leaf = self._side_weight.rpartition(".")
            graph.get_submodule(owner).register_buffer(leaf, weights["weight2"][:, units].T.clone())
            weights["weight2"] = weights["weight2"].index_fill(1, units, 0.0)
        for key, name in self._names().items():
            set_parameter(graph, name, weights[key])

    def _names(self) -> dict[str, str]:
        nodes = zip(("1", "2"), (self.first, self.second), strict=True)
        arguments = {
            f"{kind}{number}": constant_name(argument)
            for number, node in nodes
            for kind, argument in zip(("weight", "bias"), node.args[1:3], strict=False)
        }
        return {key: name for key, name in arguments.items() if name is not None}

    def _units(self) -> Tensor:
        return torch.tensor(self.second.meta[CLIPPED_UNITS])


def find_mlp(graph: fx.GraphModule, found: GeluLinear) -> MlpPlace | str:
    """The MLP around a GELU, or why it cannot be changed as a whole."""
    gelu, second = found.gelu, found.linear
    if found.reason is not None:
        return found.reason
    if not is_call(gelu, aten.gelu.default):
        return "another method has put something behind its GELU"
    first = gelu.args[0]
    if not isinstance(first, fx.Node) or not is_call(first, aten.linear.default):
        return "no linear layer stands right in front of the GELU"
    parameters = [a for node in (first, second) for a in node.args[1:3] if a is not None]
    if not all(is_private(graph, parameter) for parameter in parameters):
        return "a weight or bias is computed, or shared with another layer"
    if len(first.users) > 1:
        return "something else also reads what GELU reads"
    if gelu in cut_points(graph):
        return "no shortcut leads around it, so that it is no block by itself"
    output = second
    if CLIPPED_UNITS in second.meta:
        (output,) = (user for user in second.users if NO_ROLE in user.meta)
    source = first.args[0]
    assert isinstance(source, fx.Node)
    return MlpPlace(source, first, gelu, second, output)
