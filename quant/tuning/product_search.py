"""Search the ranges of an attention product's two operands, on some of its rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from quant.tuning.product import Product
from quant.tuning.ranges import Range, has_one_range, quantize_in, scaled

__all__ = ["Found", "SampledProduct", "search_ranges"]

Score = Callable[[Tensor, Tensor], float]
"""Of the quantized and the float product, both [B, ..., R, N]; higher is better."""


@dataclass(frozen=True, eq=False)
class SampledProduct:
    """R rows of a product on B images.

    Attributes:
        operands: in front of their quantizers, [B, ..., R, K] and [B, ..., K, N].
        wanted: the float product, [B, ..., R, N].
    """

    operands: tuple[Tensor, Tensor]
    wanted: Tensor

    @classmethod
    def draw(cls, product: Product, images: int, count: int, seed: int) -> Self:
        """Draw the same number of rows from each head of some images, evenly spaced over all.

        Args:
            product: where the walk stands.
            images: how many images at most.
            count: rows in all; at least one of each head is taken.
            seed: of the draw.
        """
        first, second = (_spread(batches, images) for batches in product.inputs)
        float_first, float_second = (_spread(batches, images) for batches in product.float_inputs)
        heads = first.shape[:-2].numel()
        chance = torch.rand(first.shape[:-1], generator=torch.Generator().manual_seed(seed))
        rows = chance.argsort(dim=-1)[..., : max(1, count // heads), None]  # [B, ..., R, 1]
        rows = rows.expand(*rows.shape[:-1], first.shape[-1])
        return cls((first.gather(-2, rows), second), float_first.gather(-2, rows) @ float_second)


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        before: the score of the ranges in force.
        after: the score of the best ones.
    """

    before: float
    after: float


@torch.no_grad()
def search_ranges(
    product: Product, sample: SampledProduct, by: Sequence[float], rounds: int, score: Score
) -> Found | None:
    """Set the ranges with the highest score, operand after operand, until none changes or the rounds end.

    An operand's candidates are its smallest and largest value times each factor, both ends alike. The
    search starts from factor 1 or from the ranges in force, whichever scores higher, so it ends no worse than
    either.

    Args:
        product: its ranges are replaced; an operand without a single uniform scale is left alone.
        sample: rows of it.
        by: the factors, 1 first.
        rounds: at most so many.
        score: of a quantized product.

    Returns:
        None where there is nothing to move.
    """
    quantizers = {
        i: site.quantizer for i, site in enumerate(product.sites) if site and has_one_range(site.quantizer)
    }
    if not quantizers:
        return None
    candidates = {i: scaled(_bounds(product.inputs[i]), by) for i in quantizers}

    def tried(ranges: dict[int, Range]) -> float:
        first, second = (
            quantize_in(x, ranges[i], quantizers[i]) if i in ranges else product.quantized(i, x)
            for i, x in enumerate(sample.operands)
        )
        return score(first @ second, sample.wanted)

    in_force = {i: quantizer.range for i, quantizer in quantizers.items()}
    before, chosen = tried(in_force), in_force
    widest = {i: ranges[0] for i, ranges in candidates.items()}
    best = tried(widest)
    if best > before:
        chosen = widest
    best = max(before, best)
    for _ in range(rounds):
        start = best
        for i, ranges in candidates.items():
            trials = [chosen | {i: bounds} for bounds in ranges]
            scores = [tried(trial) for trial in trials]
            if max(scores) > best:
                best = max(scores)
                chosen = trials[scores.index(best)]
        if best == start:
            break
    if best > before:
        for i, bounds in chosen.items():
            product.set_range(i, *bounds)
    return Found(before, best)


def _spread(batches: Sequence[Tensor], count: int) -> Tensor:
    """At most ``count`` images, evenly spaced over all batches."""
    every = torch.cat(list(batches))
    wanted = min(count, len(every))
    return every[torch.arange(wanted) * len(every) // wanted]


def _bounds(batches: Sequence[Tensor]) -> Range:
    """The smallest and the largest value."""
    ends = [torch.aminmax(x) for x in batches]
    return torch.stack([e.min for e in ends]).min(), torch.stack([e.max for e in ends]).max()
