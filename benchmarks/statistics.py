"""How sure a measured figure is: intervals, tests and percentiles, free of any model or runtime."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quant.errors import BadInput

__all__ = [
    "Interval",
    "Percentiles",
    "Ratio",
    "mcnemar_exact",
    "percentiles",
    "ratio_of_medians",
    "wilson_interval",
]

_Z_95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Percentiles:
    """Middle and tail of a sample, in the unit of the sample."""

    median: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Ratio:
    """A ratio of two medians with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def wilson_interval(successes: int, n: int) -> Interval:
    """The 95 % Wilson score interval of a proportion.

        centre = (p + z²/2n) / (1 + z²/n),  half = z/(1 + z²/n) · √(p(1-p)/n + z²/4n²)

    Chosen over the normal approximation because it stays inside [0, 1] and keeps a width at p = 0 and
    p = 1 (Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1).

    Raises:
        BadInput: ``n`` is not positive or ``successes`` is outside [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise BadInput(f"an interval needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    p, z2 = successes / n, _Z_95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At p = 0 and p = 1 one end is exact; rounding must not move it.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low, high)


def mcnemar_exact(better: int, worse: int) -> float:
    """The two-sided exact McNemar p-value of paired right/wrong answers.

    Under "no difference" each of the ``n = better + worse`` changed answers falls either way with
    probability 1/2, so  p = min(1, 2 · Σ_{i ≤ min(better, worse)} C(n, i) / 2ⁿ)  (McNemar 1947; the exact
    form is the binomial sign test). No changed answer gives p = 1.

    Raises:
        BadInput: a count is negative.
    """
    if better < 0 or worse < 0:
        raise BadInput(f"counts cannot be negative, got better={better}, worse={worse}")
    n = better + worse
    term = tail = 1
    for i in range(min(better, worse)):
        term = term * (n - i) // (i + 1)  # C(n, i + 1) from C(n, i); always whole
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def percentiles(samples: Sequence[float]) -> Percentiles:
    """Median, 90th and 99th percentile, linearly interpolated between neighbouring samples.

    With fewer than about 100 samples the 99th percentile leans on the largest one.

    Raises:
        BadInput: there are no samples.
    """
    if len(samples) == 0:
        raise BadInput("percentiles need at least one sample")
    median, p90, p99 = np.percentile(np.asarray(samples, dtype=np.float64), [50, 90, 99])
    return Percentiles(float(median), float(p90), float(p99))


def ratio_of_medians(
    numerator: Sequence[float], denominator: Sequence[float], *, seed: int = 0, resamples: int = 2000
) -> Ratio:
    """median(numerator) / median(denominator) with a percentile bootstrap interval.

    The samples are pairs taken right after each other, so the bootstrap draws pairs: what slowed the
    machine for both at once cancels in the ratio (Efron and Tibshirani 1993, chapter 13). Pairs are
    taken as independent of each other; a slow drift of the machine that changes the ratio itself is not
    in the interval.

    Args:
        numerator: positive samples [n]; for a speed-up, the times of the reference.
        denominator: positive samples [n], the i-th taken beside the i-th of ``numerator``.
        seed: seed of the resampling.
        resamples: number of bootstrap draws.

    Raises:
        BadInput: the samples are empty, of unequal length or not positive.
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if top.shape != bottom.shape or top.ndim != 1 or top.size == 0:
        raise BadInput(f"paired samples must be two equally long lists, got {top.size} and {bottom.size}")
    if not (np.all(top > 0) and np.all(bottom > 0)):
        raise BadInput("a ratio of medians needs positive samples")
    generator = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    for draw in range(resamples):
        pairs = generator.integers(0, top.size, top.size)
        ratios[draw] = np.median(top[pairs]) / np.median(bottom[pairs])
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(float(np.median(top) / np.median(bottom)), float(low), float(high))
