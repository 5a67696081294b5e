"""How much each figure of a variant changed between two runs.

Latencies of two runs are hours or machines apart, and a shared machine changes its speed by more than the
limits people set. In each run, however, the variant v took turns with the float model r, process by process.
With q a quantile of a process's times and l_p = log q(v_p) − log q(r_p), the change is therefore

    exp(mean l_new − mean l_base) − 1

What slowed both in one run cancels. (So does what slows the float model as much as the variant, such as
another version of the runtime: the float model's own change stands in the result, uncorrected.) The
interval is that of Welch's t-test of the l_p, so it knows how much processes differ.

Where the models of both runs took turns (:mod:`benchmarks.compare.together`), process by process, the change
is that of the variant itself, and the interval Student's over the pairs of processes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from benchmarks.compare.metrics import METRICS, Metric
from benchmarks.latency import Latency
from benchmarks.report.comparison import configurations, entry, where
from benchmarks.results import Summary, Variant
from benchmarks.statistics import Interval, log_quantiles, mean_and_error, ratio_over_processes

__all__ = ["Change", "changes"]


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
        interval: 95 % interval of ``relative``, for latencies.
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


def changes(base: Summary, new: Summary, together: bool = False) -> list[Change]:
    """All figures of the variants that both runs have, the reference first.

    Args:
        base: the run before.
        new: the run now.
        together: whether the models of both took turns with each other.
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
            alone = together or then is base.base
            beside = None if alone else (entry(base.base, place), entry(new.base, place))
            found += _latencies(then.name, where(place), own, beside, together)
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
    together: bool,
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
        if then is not None and now is not None and together:
            ratio = ratio_over_processes(now.by_process, then.by_process, q)
            relative, interval = ratio.value - 1.0, Interval(ratio.low - 1.0, ratio.high - 1.0)
        elif then is not None and now is not None:
            relative, interval = _relative((now, references[1]), (then, references[0]), q)
        yield Change(name, metric, place, before, after, relative, interval)


def _relative(
    now: tuple[Latency, Latency | None], then: tuple[Latency, Latency | None], q: float
) -> tuple[float, Interval]:
    """The change of a variant, the float model beside it, from then to now (Welch 1947)."""
    new, base = _logs(*now, q), _logs(*then, q)
    (new_mean, new_error), (base_mean, base_error) = mean_and_error(new), mean_and_error(base)
    change, variance = new_mean - base_mean, new_error**2 + base_error**2
    spread = new_error**4 / (new.size - 1) + base_error**4 / (base.size - 1)
    half = 0.0 if variance == 0 else float(t.ppf(0.975, variance**2 / spread)) * math.sqrt(variance)
    return math.expm1(change), Interval(math.expm1(change - half), math.expm1(change + half))


def _logs(own: Latency, reference: Latency | None, q: float) -> NDArray[np.float64]:
    """The l_p of a run's processes [P]; those of the variant alone where there is no reference."""
    logs = log_quantiles(own.by_process, q)
    return logs if reference is None else logs - log_quantiles(reference.by_process, q)
