"""How much each figure of a variant changed between two runs.

Latencies of two runs are hours or machines apart, and a shared machine changes its speed by more than the
limits people set. In each run, however, the variant v took turns with the float model r. With q a quantile of
their times, the change is therefore

    (q(v_new) / q(r_new)) / (q(v_base) / q(r_base)) − 1

What slowed both in one run cancels. (So does what slows the float model as much as the variant, such as
another version of the runtime: the float model's own change stands in the result, uncorrected.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare.metrics import METRICS, Metric
from benchmarks.latency import Latency
from benchmarks.report.comparison import configurations, entry, where
from benchmarks.results import Summary, Variant
from benchmarks.statistics import Interval

__all__ = ["Change", "changes"]

_RESAMPLES = 2000


@dataclass(frozen=True)
class Change:
    """One figure of one variant in both runs.

    Attributes:
        variant: its name.
        metric: the figure.
        where: batch and threads of a latency, else ''.
        base: the figure then, in the metric's unit; None where it was not measured.
        new: the figure now.
        relative: the change as a share of ``base``, of latencies with the machine's speed taken out; None
            where a side is missing or ``base`` is 0.
        interval: 95 % bootstrap interval of ``relative``, for latencies.
    """

    variant: str
    metric: Metric
    where: str
    base: float | None
    new: float | None
    relative: float | None
    interval: Interval | None = None

    @property
    def absolute(self) -> float | None:
        """The change in the metric's unit."""
        if self.base is None or self.new is None:
            return None
        if self.interval is not None and self.relative is not None:
            return self.base * self.relative
        return 0.0 if self.new == self.base else self.new - self.base  # equal ones may be infinite


def changes(base: Summary, new: Summary, seed: int = 0) -> list[Change]:
    """All figures of the variants that both runs have, the reference first.

    Args:
        base: the run before.
        new: the run now.
        seed: of the bootstrap.
    """
    pairs = [(base.base, new.base)]
    others = {variant.name: variant for variant in new.others}
    pairs += [(variant, others[variant.name]) for variant in base.others if variant.name in others]
    places = dict.fromkeys((*configurations(base), *configurations(new)))
    found: list[Change] = []
    for then, now in pairs:
        found += _plain(then, now)
        for place in places:
            own = entry(then, place), entry(now, place)
            # The reference is not corrected by itself.
            beside = None if then is base.base else (entry(base.base, place), entry(new.base, place))
            found += _latencies(then.name, where(place), own, beside, seed)
    return found


def _plain(then: Variant, now: Variant) -> Iterator[Change]:
    for metric in METRICS.values():
        if metric.read is None:
            continue
        before, after = metric.read(then), metric.read(now)
        if before is None and after is None:
            continue
        relative = None if before is None or after is None or not before else _over(after, before)
        yield Change(then.name, metric, "", before, after, relative)


def _over(after: float, before: float) -> float:
    return 0.0 if after == before else after / before - 1.0  # equal ones may be infinite


def _latencies(
    name: str,
    place: str,
    own: tuple[Latency | None, Latency | None],
    beside: tuple[Latency | None, Latency | None] | None,
    seed: int,
) -> Iterator[Change]:
    then, now = own
    if then is None and now is None:
        return
    references = (None, None) if beside is None or None in beside else beside
    for metric in METRICS.values():
        q = metric.quantile
        if q is None:
            continue
        before, after = (None if e is None else float(np.quantile(e.samples_ms, q)) for e in own)
        relative, interval = None, None
        if then is not None and now is not None:
            relative, interval = _relative(_Times(then, references[0]), _Times(now, references[1]), q, seed)
        yield Change(name, metric, place, before, after, relative, interval)


class _Times:
    """The times of a variant, those of the float model beside them."""

    def __init__(self, own: Latency, reference: Latency | None) -> None:
        self._own = np.asarray(own.samples_ms)
        self._reference = None if reference is None else np.asarray(reference.samples_ms)

    def figures(self, q: float, rounds: NDArray[np.int64]) -> NDArray[np.float64]:
        """The quantile, over that of the float model, of each row of rounds [R, n]."""
        own = np.quantile(self._own[rounds], q, axis=1)
        if self._reference is not None:
            own = own / np.quantile(self._reference[rounds], q, axis=1)
        return np.asarray(own, dtype=np.float64)

    def measured(self, q: float) -> float:
        """The figure of the rounds as they were."""
        return float(self.figures(q, np.arange(len(self._own))[None])[0])

    def draws(self, q: float, generator: np.random.Generator) -> NDArray[np.float64]:
        """The figure of resampled rounds: what was measured side by side stays together."""
        count = len(self._own)
        return self.figures(q, generator.integers(0, count, (_RESAMPLES, count)))


def _relative(then: _Times, now: _Times, q: float, seed: int) -> tuple[float, Interval]:
    generator = np.random.default_rng(seed)
    drawn = now.draws(q, generator) / then.draws(q, generator) - 1.0
    low, high = np.percentile(drawn, [2.5, 97.5])
    return now.measured(q) / then.measured(q) - 1.0, Interval(float(low), float(high))
