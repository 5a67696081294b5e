"""Whether quantized attention ranks the keys as float attention does: Kendall's τ of the scores."""

from collections.abc import Iterable

import torch
from torch import Tensor, fx

from quant.calibrated import CalibratedGraph
from quant.errors import BadInput
from quant.roles import find_places
from quant.tuning.objectives import pair_order, sample_pairs
from quant.watch import watch

__all__ = ["attention_order", "kendall_tau"]


def kendall_tau(a: Tensor, b: Tensor, pairs: Tensor) -> Tensor:
    """Kendall's τ_b of every row, over the pairs given; with all pairs it is the statistic itself.

    τ_b = Σ sign(a_i − a_j) sign(b_i − b_j) / √(T_a T_b), T the number of pairs that are not tied. A row where
    either side is constant gives NaN, as it has no order.

    Args:
        a: [..., N].
        b: the same shape.
        pairs: [2, P], see :func:`quant.tuning.objectives.sample_pairs`.

    Returns:
        float64 [...].
    """
    order_a, order_b = pair_order(a, pairs), pair_order(b, pairs)
    concordance = (order_a * order_b).sum(dim=-1, dtype=torch.float64)
    untied_a, untied_b = (order.abs().sum(dim=-1, dtype=torch.float64) for order in (order_a, order_b))
    return concordance / (untied_a * untied_b).sqrt()


def attention_order(
    calibrated: CalibratedGraph, batches: Iterable[Tensor], pairs: int = 1024, rows: int = 64, seed: int = 0
) -> dict[str, float]:
    """Mean τ_b between the attention scores of the float reference and those of the graph as it is.

    Freeze the graph first (:func:`quant.encoding.freeze`), so that it quantizes.

    Args:
        calibrated: a graph with attention products Q Kᵀ; they need not be quantized themselves.
        batches: images [B, C, H, W].
        pairs: pairs of keys compared in each row, drawn once.
        rows: query positions looked at, drawn once, the same in every head and image.
        seed: of both draws.

    Returns:
        τ_b by product, ``blocks.0.attn.qk``, in forward order; the mean over images, heads and queries.

    Raises:
        BadInput: the model has no attention, or there are no images.
    """
    products = _products(calibrated.reference)
    if not products:
        raise BadInput("the model has no attention products to compare")
    twins = {node.name: node for node in calibrated.graph.graph.nodes}
    quantized = {twins[node.name]: name for node, name in products.items()}
    totals = {name: [0.0, 0] for name in products.values()}
    for images in batches:
        scores: dict[str, Tensor] = {}

        def keep(node: fx.Node, value: Tensor, scores: dict[str, Tensor] = scores) -> None:
            scores[products[node]] = _some_rows(value, rows, seed)

        def compare(node: fx.Node, value: Tensor, scores: dict[str, Tensor] = scores) -> None:
            wanted = scores.pop(quantized[node])
            drawn = sample_pairs(wanted.shape[-1], pairs, seed)
            tau = kendall_tau(wanted, _some_rows(value, rows, seed), drawn)
            totals[quantized[node]][0] += float(tau.nansum())
            totals[quantized[node]][1] += int((~tau.isnan()).sum())

        watch(calibrated.reference, list(products), images, keep)
        watch(calibrated.graph, list(quantized), images, compare)
    if not all(count for _, count in totals.values()):
        raise BadInput("there are no images to compare attention on")
    return {name: total / count for name, (total, count) in totals.items()}


def _products(graph: fx.GraphModule) -> dict[fx.Node, str]:
    """The nodes of Q Kᵀ and their names."""
    places = (place for place in find_places(graph) if place.role == "attention_qk.input")
    return {reader: place.layer for place in places for reader in place.readers or ()}


def _some_rows(scores: Tensor, count: int, seed: int) -> Tensor:
    drawn = torch.randperm(scores.shape[-2], generator=torch.Generator().manual_seed(seed))[:count]
    return scores.index_select(-2, drawn)
