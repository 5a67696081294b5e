"""Histograms of a stream of values whose range nobody knows beforehand."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quant.errors import BadInput

__all__ = ["Counts", "Histogram", "PairHistogram"]

Counts = NDArray[np.int64]

_BINS = 4096
_LOWEST = -126  # the exponent of float32's smallest normal number
_PER_SIGMA = 8  # bins of the KL divergence in one standard deviation, at least


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of a float tensor and of its quantized counterpart in the same bins.

    Bin i holds the values in ``[(i − n/2) w, (i + 1 − n/2) w)``, where n is the number of bins.

    Attributes:
        width: w, a power of two.
        float_counts: [n].
        quantized_counts: [n].
    """

    width: float
    float_counts: Counts
    quantized_counts: Counts

    def kl(self, sigma: float) -> float:
        """Kullback-Leibler divergence of the distributions of values, ``Σ p ln(p / q)``, in nats.

        p is the float tensor's, q the quantized one's. The bins are as wide as the largest power of two up to
        ``sigma / 8`` (never narrower than :attr:`width`), so that outliers do not decide how finely the bulk
        is seen. One count is added to each of the bins that either of the two occupies.

        Args:
            sigma: standard deviation of the float tensor.
        """
        wanted = math.frexp(sigma / _PER_SIGMA)[1] - 1 if sigma > 0 else _LOWEST
        factor = 2 ** min(max(0, wanted - math.frexp(self.width)[1] + 1), int(math.log2(_BINS)))
        a, b = (_merged(c, factor) for c in (self.float_counts, self.quantized_counts))
        occupied = (a + b) > 0
        p, q = (a[occupied] + 1.0), (b[occupied] + 1.0)
        p, q = p / p.sum(), q / q.sum()
        return float(np.sum(p * np.log(p / q)))

    def outside(self, counts: Counts, mean: float, distance: float) -> float:
        """The share of values farther than ``distance`` from ``mean``, 0 to 1.

        Values are taken as spread evenly over their bin, so the result is exact up to a part of the two bins
        that hold the bounds.

        Args:
            counts: :attr:`float_counts` or :attr:`quantized_counts`.
            mean: the centre.
            distance: at least 0.
        """
        edges = (np.arange(len(counts) + 1) - len(counts) // 2) * self.width
        cumulative = np.concatenate([[0], np.cumsum(counts)])
        below, upto = np.interp([mean - distance, mean + distance], edges, cumulative)
        total = int(cumulative[-1])
        return max(0.0, float(below + total - upto) / total)

    def trimmed(self, most: int) -> tuple[NDArray[np.float64], Counts, Counts]:
        """For a drawing: the occupied range in at most ``most`` bins.

        Returns:
            The edges [m + 1] and both counts [m].
        """
        occupied = np.flatnonzero(self.float_counts + self.quantized_counts)
        first, last = int(occupied[0]), int(occupied[-1]) + 1
        step = -(-(last - first) // most)
        edges = np.arange(first, last + step, step)
        if edges[-2] >= last:
            edges = edges[:-1]
        values = np.asarray((edges - len(self.float_counts) // 2) * self.width, dtype=np.float64)
        merged = [_summed(c, edges[:-1]) for c in (self.float_counts, self.quantized_counts)]
        return values, merged[0], merged[1]


class PairHistogram:
    """Collects a :class:`Histogram`, batch by batch.

    The bins cover ``[−2^e, 2^e)``. When a value lies beyond, e grows and neighbouring bins are merged, which
    is exact: the result does not depend on the order or the size of the batches.
    """

    def __init__(self) -> None:
        self._exponent = _LOWEST
        self._counts = [np.zeros(_BINS, dtype=np.int64) for _ in range(2)]

    def update(self, x: Tensor, y: Tensor, name: str = "tensor") -> None:
        """Count the elements of the float64 vectors x, of the float graph, and y, of the quantized one.

        Raises:
            BadInput: one of them holds NaN or infinity.
        """
        peak = max(float(x.abs().amax()), float(y.abs().amax()))
        if not math.isfinite(peak):
            raise BadInput(f"'{name}' computes NaN or infinity; check the model's weights and images")
        exponent = max(self._exponent, math.frexp(peak)[1] if peak else _LOWEST)  # peak < 2^exponent
        factor = 2 ** min(exponent - self._exponent, int(math.log2(_BINS)))
        self._exponent = exponent
        self._counts = [_merged(counts, factor) for counts in self._counts]
        for counts, values in zip(self._counts, (x, y), strict=True):
            codes = torch.floor(values * (_BINS / 2 / 2.0**exponent)).to(torch.int32) + _BINS // 2
            counts += torch.bincount(codes, minlength=_BINS).cpu().numpy()

    def result(self) -> Histogram:
        """The histogram so far."""
        first, second = (counts.copy() for counts in self._counts)
        return Histogram(2.0**self._exponent / (_BINS / 2), first, second)


def _merged(counts: Counts, factor: int) -> Counts:
    """The same counts in bins ``factor`` times as wide, a power of two; as many bins, zero stays in place."""
    if factor == 1:
        return counts
    half = len(counts) // 2
    target = (np.arange(len(counts)) - half) // factor + half
    merged = np.zeros_like(counts)
    np.add.at(merged, target, counts)
    return merged


def _summed(counts: Counts, starts: Counts) -> Counts:
    sums: Counts = np.add.reduceat(counts, starts)
    return sums
