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

__all__ = ["decompose_attention"]

aten = torch.ops.aten


def decompose_attention(graph: fx.GraphModule) -> int:
    """Replace every fused attention by visible operators, in place.

    Args:
        graph: q, k and v are [..., N, D] with static D.

    Returns:
        How many were replaced.

    Raises:
        Unsupported: attention with causal masking, dropout or grouped heads, naming its module.
    """
    found = [n for n in graph.graph.nodes if is_call(n, aten.scaled_dot_product_attention.default)]
    for node in found:
        _decompose(graph.graph, node)
    graph.graph.lint()
    graph.recompile()
    return len(found)


def _decompose(graph: fx.Graph, node: fx.Node) -> None:
    arguments: dict[str, Any] = dict(
        zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), node.args, strict=False)
    )
    arguments |= node.kwargs
    query, key, value = arguments["query"], arguments["key"], arguments["value"]
    mask = arguments.get("attn_mask")
    for option in ("dropout_p", "is_causal", "enable_gqa"):
        if arguments.get(option):
            raise Unsupported(f"attention in '{module_of(node)}' uses {option}={arguments[option]}")
    if isinstance(mask, fx.Node) and mask.meta["val"].dtype == torch.bool:
        raise Unsupported(f"attention in '{module_of(node)}' has a boolean mask; use an additive float mask")
    scale = arguments.get("scale") or 1.0 / math.sqrt(int(shape_of(query)[-1]))

    def call(target: Any, *args: Any) -> fx.Node:
        new = graph.call_function(target, args)
        new.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
        new.meta["val"] = target(*(a.meta["val"] if isinstance(a, fx.Node) else a for a in args))
        return new

    with graph.inserting_before(node):
        scaled = call(aten.mul.Tensor, query, scale)
        scores = call(aten.matmul.default, scaled, call(aten.transpose.int, key, -2, -1))
        if mask is not None:
            scores = call(aten.add.Tensor, scores, mask)
        weights = call(aten.softmax.int, scores, -1)
        result = call(aten.matmul.default, weights, value)
    node.replace_all_uses_with(result)
    graph.erase_node(node)
