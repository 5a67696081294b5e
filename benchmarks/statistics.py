"""How sure a measured figure is: intervals, tests and percentiles, free of any model or runtime."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from quant.errors import BadInput

__all__ = [
    "Interval",
    "Percentiles",
    "Ratio",
    "log_quantiles",
    "mcnemar_exact",
    "mean_and_error",
    "percentiles",
    "ratio_over_processes",
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
    """A ratio of two models' times with its 95 % interval."""

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


def ratio_over_processes(numerator: ArrayLike, denominator: ArrayLike, q: float = 0.5) -> Ratio:
    """The ratio of two models' times, with a 95 % interval that knows how much processes differ.

    The same file, loaded anew, runs at another speed: memory lies elsewhere. Calls of one process say
    nothing about that, however many they are. So each process p gives one figure, and what varies is seen
    between them:

        l_p = log quantile_q(numerator_p) − log quantile_q(denominator_p)
        ratio = exp(mean l),  interval = exp(mean l ± t_{P−1} · s / √P)

    with s the standard deviation of the l_p and t the 97.5 % point of Student's distribution. The processes
    of one p lived side by side, so that what slowed the machine for both cancels. A bootstrap of so few
    processes would give an interval that is too narrow.

    Args:
        numerator: positive times [P, n] of at least two processes; for a speed-up, those of the reference.
        denominator: positive times [P, n], row by row from processes that took turns with those.
        q: which quantile of a process's times is compared.

    Raises:
        BadInput: the shapes differ, there are fewer than two processes, or a time is not positive.
    """
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if top.shape[:1] != bottom.shape[:1]:
        raise BadInput(f"a ratio needs the same processes on both sides, got {top.shape} and {bottom.shape}")
    logs = log_quantiles(top, q) - log_quantiles(bottom, q)
    middle, error = mean_and_error(logs)
    half = float(stats.t.ppf(0.975, logs.size - 1)) * error
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def log_quantiles(times: ArrayLike, q: float) -> NDArray[np.float64]:
    """Log quantile_q of each process's times: [P, n] → [P].

    Raises:
        BadInput: there are fewer than two processes, or a time is not positive.
    """
    array = np.asarray(times, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] == 0:
        raise BadInput(f"an interval needs the times of two processes or more, got {list(array.shape)}")
    if not np.all(array > 0):
        raise BadInput("times must be positive")
    return np.asarray(np.log(np.quantile(array, q, axis=1)), dtype=np.float64)


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of values [P], P ≥ 2, and its standard error s / √P."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(values.size))
