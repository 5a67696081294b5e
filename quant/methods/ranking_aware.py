"""Ranking-aware scales: quantize q and k so that attention scores keep their order within each row.

For the scores A = Q Kᵀ of a block, over factors of the min-max ranges of q and k, alternately,

    max  mean over images of Γ(A, Â) − γ L_rank,
    L_rank = mean over rows and pairs i < j of max(0, θ − (â_i − â_j) sign(a_i − a_j)),

with Γ Pearson's correlation. θ is in units of the product's entries; where the scale 1/√d is applied to Q, as
captured attention does, these are the logits that softmax reads. Pairs are subsampled.

It moves the quantizers of attention products and nothing else: a recipe must quantize ``attention_qk.input``.
Where q and k stay float there is no scale that belongs to the product, and a layer alone does not know which
of its outputs become q and k; its weight and input are left to :mod:`quant.methods.scale_search`.

Source: Liu et al. 2021, "Post-Training Quantization for Vision Transformer", section 3.3, γ = 0.1, θ = 0.2.
There L_rank is a sum over all rows and pairs, beside which the correlation hardly counts; here it does.
"""

import torch
from pydantic import Field
from torch import Tensor

from quant.methods.registry import MethodNote, register_method
from quant.methods.search_options import SearchOptions
from quant.tuning.layer import Layer
from quant.tuning.objectives import pair_order, pearson, rank_loss, sample_pairs
from quant.tuning.product import Product
from quant.tuning.product_search import SampledProduct, search_ranges
from quant.tuning.ranges import factors

__all__ = ["RankingAware", "RankingAwareOptions"]

NAME = "ranking_aware"


class RankingAwareOptions(SearchOptions):
    """Options.

    Attributes:
        gamma: weight of the ranking loss beside the correlation.
        theta: margin by which the order must be kept, in units of the attention scores.
        pairs: pairs of keys compared in each row.
    """

    gamma: float = Field(default=0.1, ge=0.0)
    theta: float = Field(default=0.2, ge=0.0)
    pairs: int = Field(default=512, ge=1)


@register_method(NAME, RankingAwareOptions)
class RankingAware:
    """The method, see the module's text."""

    def __init__(self, options: RankingAwareOptions) -> None:
        self._options = options

    def tune_layer(self, layer: Layer) -> MethodNote | None:
        """Nothing."""
        del layer
        return None

    @torch.no_grad()
    def tune_product(self, product: Product) -> MethodNote | None:
        """Search the ranges of q and k."""
        options = self._options
        if product.kind != "qk":
            return None
        sample = SampledProduct.draw(product, options.images, options.rows, options.seed)
        pairs = sample_pairs(sample.wanted.shape[-1], options.pairs, options.seed)
        order = pair_order(sample.wanted, pairs)

        def score(found: Tensor, wanted: Tensor) -> float:
            correlation = pearson(found, wanted, range(1, found.ndim)).mean()
            return float(correlation - options.gamma * rank_loss(found, order, pairs, options.theta))

        by = factors(options.low, options.high, options.candidates)
        found = search_ranges(product, sample, by, options.rounds, score)
        if found is None:
            return MethodNote(NAME, product.name, False, "neither q nor k has a single uniform scale")
        text = f"Γ − γ L_rank {found.before:.5f} → {found.after:.5f}"
        return MethodNote(NAME, product.name, found.after > found.before, text)
