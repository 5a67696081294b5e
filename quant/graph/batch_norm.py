"""Fold inference-time batch normalization into the convolution or linear layer before it.

y = (W x + b − μ) / sqrt(σ² + ε) · γ + β  =  (W · f) x + (b − μ) · f + β,  f = γ / sqrt(σ² + ε) per channel.
"""

import torch
from torch import Tensor, fx, nn

from quant.graph.nodes import constant_name, is_call, tensor_of

__all__ = ["fold_batch_norm"]

aten = torch.ops.aten


def fold_batch_norm(graph: fx.GraphModule) -> int:
    """Fold each batch_norm whose input is a layer that feeds nothing else, in place.

    The products are formed in float64 and rounded once.

    Returns:
        How many were folded; the others stay as they are.
    """
    folded = 0
    for node in list(graph.graph.nodes):
        if is_call(node, aten.batch_norm.default) and _fold(graph, node):
            folded += 1
    graph.graph.lint()
    graph.recompile()
    return folded


def _fold(graph: fx.GraphModule, norm: fx.Node) -> bool:
    layer = norm.args[0]
    if not isinstance(layer, fx.Node) or not is_call(layer, aten.conv2d.default, aten.linear.default):
        return False
    weight_name = constant_name(layer.args[1])
    if weight_name is None or len(layer.users) != 1 or len(layer.args[1].users) != 1:  # type: ignore[union-attr]
        return False
    gamma, beta, mean, variance = (_constant(graph, a) for a in norm.args[1:5])
    if mean is None or variance is None:
        return False
    eps = norm.args[7]
    weight = tensor_of(graph, weight_name)
    bias_node = layer.args[2] if len(layer.args) > 2 else None
    bias = _constant(graph, bias_node)
    factor = (variance.double() + eps).rsqrt() * (1.0 if gamma is None else gamma.double())  # [C]
    shift = (0.0 if bias is None else bias.double()) - mean.double()
    new_bias = shift * factor + (0.0 if beta is None else beta.double())
    shape = [-1] + [1] * (weight.ndim - 1)
    owner = graph.get_submodule(weight_name.rpartition(".")[0])
    leaf = weight_name.rpartition(".")[2]
    setattr(owner, leaf, _frozen((weight.double() * factor.reshape(shape)).float()))
    bias_leaf = f"{leaf.removesuffix('weight')}bias"
    setattr(owner, bias_leaf, _frozen(new_bias.float()))
    if bias_node is None:
        with graph.graph.inserting_before(layer):
            bias_node = graph.graph.get_attr(f"{weight_name.removesuffix('weight')}bias")
            bias_node.meta["val"] = new_bias.float()
        layer.args = (*layer.args[:2], bias_node, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    graph.graph.erase_node(norm)
    return True


def _constant(graph: fx.GraphModule, node: object) -> Tensor | None:
    name = constant_name(node)
    return None if name is None else tensor_of(graph, name)


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)
