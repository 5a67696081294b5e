"""Write fused attention as the two matrix products and the softmax it stands for.

softmax(Q Kᵀ · scale + mask) V, the definition of ``torch.nn.functional.scaled_dot_product_attention``. The
scale is applied to Q, before the product, which is where TensorRT wants it.
"""

import math
from typing import Any

import torch
from torch import fx

from quant.errors import Unsupported
from quant.graph.nodes import is_call, module_of, shape_of
from quant.graph.parameters import add_constant

__all__ = ["decompose_attention"]

aten = torch.ops.aten


def decompose_attention(graph: fx.GraphModule) -> int:
    """Replace every fused attention by visible operators, in place.

    Args:
        graph: q, k and v are [..., N, D] with static D.

    Returns:
        How many were replaced.

    Raises:
        Unsupported: attention with dropout, grouped heads, a boolean mask, or a causal mask over a number
            of tokens that varies; the message names its module.
    """
    found = [n for n in graph.graph.nodes if is_call(n, aten.scaled_dot_product_attention.default)]
    for node in found:
        _decompose(graph, node)
    graph.graph.lint()
    graph.recompile()
    return len(found)


def _decompose(graph: fx.GraphModule, node: fx.Node) -> None:
    arguments: dict[str, Any] = dict(
        zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), node.args, strict=False)
    )
    arguments |= node.kwargs
    query, key, value = arguments["query"], arguments["key"], arguments["value"]
    mask, scale = arguments.get("attn_mask"), arguments.get("scale")
    for option in ("dropout_p", "enable_gqa"):
        if arguments.get(option):
            raise Unsupported(f"attention in '{module_of(node)}' uses {option}={arguments[option]}")
    if isinstance(mask, fx.Node) and mask.meta["val"].dtype == torch.bool:
        raise Unsupported(f"attention in '{module_of(node)}' has a boolean mask; use an additive float mask")
    if arguments.get("is_causal"):
        mask = _causal_mask(graph, node, shape_of(query)[-2], shape_of(key)[-2])
    if scale is None:
        scale = 1.0 / math.sqrt(int(shape_of(query)[-1]))

    def call(target: Any, *args: Any) -> fx.Node:
        new = graph.graph.call_function(target, args)
        new.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
        new.meta["val"] = target(*(a.meta["val"] if isinstance(a, fx.Node) else a for a in args))
        return new

    with graph.graph.inserting_before(node):
        scaled = call(aten.mul.Tensor, query, scale)
        scores = call(aten.matmul.default, scaled, call(aten.transpose.int, key, -2, -1))
        if mask is not None:
            scores = call(aten.add.Tensor, scores, mask)
        weights = call(aten.softmax.int, scores, -1)
        result = call(aten.matmul.default, weights, value)
    node.replace_all_uses_with(result)
    graph.graph.erase_node(node)


def _causal_mask(graph: fx.GraphModule, node: fx.Node, queries: Any, keys: Any) -> fx.Node:
    """Query i sees keys 0 to i: an additive mask [queries, keys] of 0 and −∞."""
    if not isinstance(queries, int) or not isinstance(keys, int):
        raise Unsupported(f"attention in '{module_of(node)}' is causal over a varying number of tokens")
    mask = torch.full((queries, keys), -math.inf).triu(1)
    return add_constant(graph, f"{module_of(node)}.causal_mask".lstrip("."), mask, node)
