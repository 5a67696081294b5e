"""Fold inference-time batch normalization into the convolution or linear layer before it.

y = (W x + b − μ) / sqrt(σ² + ε) · γ + β  =  (W · f) x + (b − μ) · f + β,  f = γ / sqrt(σ² + ε) per channel.
"""

from typing import Any

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, is_call, shape_of, tensor_of
from quant.graph.parameters import is_private, set_parameter, update_parameter

__all__ = ["fold_batch_norm"]

aten = torch.ops.aten


def fold_batch_norm(graph: fx.GraphModule) -> int:
    """Fold each batch_norm whose input is a layer that feeds nothing else, in place.

    The products are formed in float64 and rounded once.

    Returns:
        How many were folded. The others stay as they are: those whose layer has other readers or shared
        parameters, and those that use the batch's own statistics.
    """
    folded = 0
    for node in list(graph.graph.nodes):
        if is_call(node, aten.batch_norm.default) and _fold(graph, node):
            folded += 1
    graph.graph.lint()
    graph.recompile()
    return folded


def _fold(graph: fx.GraphModule, norm: fx.Node) -> bool:
    arguments: tuple[Any, ...] = norm.args
    layer, *statistics, training, _, eps = arguments[:8]
    gamma, beta, mean, variance = (_constant(graph, a) for a in statistics)
    if training or mean is None or variance is None or not isinstance(layer, fx.Node):
        return False
    # The channels of a convolution are axis 1, as the norm's; of a linear layer only where x is [N, C].
    if not is_call(layer, aten.conv2d.default) and not (
        is_call(layer, aten.linear.default) and len(shape_of(layer)) == 2
    ):
        return False
    weight, bias = layer.args[1], layer.args[2] if len(layer.args) > 2 else None
    if len(layer.users) != 1 or not is_private(graph, weight):
        return False
    bias_name = f"{str(constant_name(weight)).removesuffix('weight')}bias"
    if bias is None and _attribute(graph, bias_name) is not None:
        return False
    if bias is not None and not is_private(graph, bias):
        return False

    factor = (variance.double() + eps).rsqrt() * (1.0 if gamma is None else gamma.double())  # f [C]
    shift = 0.0 if beta is None else beta.double()
    update_parameter(graph, weight, lambda w: w * factor.reshape(-1, *[1] * (w.ndim - 1)))
    if bias is None:
        set_parameter(graph, bias_name, (shift - mean.double() * factor).to(mean.dtype))
        with graph.graph.inserting_before(layer):
            bias = graph.graph.get_attr(bias_name)
        bias.meta["val"] = _attribute(graph, bias_name)
        layer.args = (*layer.args[:2], bias, *layer.args[3:])
    else:
        update_parameter(graph, bias, lambda b: (b - mean.double()) * factor + shift)
    norm.replace_all_uses_with(layer)
    graph.graph.erase_node(norm)
    return True


def _constant(graph: fx.GraphModule, node: object) -> Tensor | None:
    name = constant_name(node)
    return None if name is None else tensor_of(graph, name)


def _attribute(graph: fx.GraphModule, name: str) -> object:
    owner, _, leaf = name.rpartition(".")
    return getattr(graph.get_submodule(owner), leaf, None)
