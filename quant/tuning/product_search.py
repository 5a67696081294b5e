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
        rounds: how often both operands were gone through.
    """

    before: float
    after: float
    rounds: int


@torch.no_grad()
def search_ranges(
    product: Product, sample: SampledProduct, by: Sequence[float], rounds: int, score: Score
) -> Found | None:
    """Set the ranges with the highest score, operand after operand, until none changes or the rounds end.

    Each operand's candidates are its smallest and largest value times each factor. The search starts from these
    (factor 1) or from the ranges in force, whichever scores higher, so the result is no worse than either.

    Args:
        product: its ranges are replaced; an operand without a single uniform scale is left alone.
        sample: rows of it.
        by: the factors.
        rounds: at most so many.
        score: of a quantized product.

    Returns:
        None where there is nothing to move.
    """
    quantizers = [site and site.quantizer for site in product.sites]
    movable = [i for i, quantizer in enumerate(quantizers) if has_one_range(quantizer)]
    if not movable:
        return None

    def quantized(operand: int, bounds: Range | None) -> Tensor:
        x, quantizer = sample.operands[operand], quantizers[operand]
        if bounds is None or quantizer is None:
            return product.quantized(operand, x)
        return quantize_in(x, bounds, quantizer)

    def tried(values: Sequence[Tensor]) -> float:
        return score(values[0] @ values[1], sample.wanted)

    candidates: dict[int, list[Range]] = {}
    in_force: list[Range | None] = [None, None]
    for i in movable:
        quantizer = quantizers[i]
        assert quantizer is not None
        in_force[i] = quantizer.range
        candidates[i] = scaled(_bounds(product.inputs[i]), by)
    present = [quantized(i, bounds) for i, bounds in enumerate(in_force)]
    chosen, best = list(in_force), tried(present)
    before = best
    widest = [candidates[i][0] if i in candidates else None for i in (0, 1)]
    values = [quantized(i, bounds) for i, bounds in enumerate(widest)]
    if (found := tried(values)) > best:
        chosen, present, best = list(widest), values, found
    done = 0
    for done in range(1, rounds + 1):
        start = best
        for i in movable:
            for bounds in candidates[i]:
                values = list(present)
                values[i] = quantized(i, bounds)
                if (found := tried(values)) > best:
                    best, chosen[i], kept = found, bounds, values[i]
                    present_next = kept
            if best > start:
                present[i] = quantized(i, chosen[i])
        if best == start:
            break
    for i in movable:
        bounds = chosen[i]
        if bounds is not None and bounds is not in_force[i]:
            product.set_range(i, *bounds)
    return Found(before, best, done)


def _spread(batches: Sequence[Tensor], count: int) -> Tensor:
    """At most ``count`` images, evenly spaced over all batches."""
    every = torch.cat(list(batches))
    wanted = min(count, len(every))
    return every[torch.arange(wanted) * len(every) // wanted]


def _bounds(batches: Sequence[Tensor]) -> Range:
    """The smallest and the largest value."""
    ends = [torch.aminmax(x) for x in batches]
    return torch.stack([e.min for e in ends]).min(), torch.stack([e.max for e in ends]).max()
