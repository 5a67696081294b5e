"""Time several models against each other in one process, taking turns call by call.

A shared machine changes speed within seconds. Timing one model after the other turns such a change into
a difference between models; taking turns lets it hit all of them, so that ratios hold where absolute
times do not.
"""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, PositiveInt

from benchmarks.statistics import Ratio, percentiles, ratio_of_medians
from deploy.runner import Array, Runner
from quant.errors import BadInput

__all__ = ["Latency", "LatencySettings", "Times", "summarize", "take_turns"]


class LatencySettings(BaseModel):
    """How latency is measured.

    Attributes:
        warmup: calls per variant that are kept apart, after the very first one.
        calls: steady calls per variant, the ones every figure is made of.
        batch_sizes: images per call, each measured on its own.
        threads: intra-op threads, each measured on its own.
        seed: seed of the bootstrap.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    warmup: PositiveInt = 5
    calls: PositiveInt = 100
    batch_sizes: tuple[PositiveInt, ...] = (1,)
    threads: tuple[PositiveInt, ...] = (1,)
    seed: int = 0


@dataclass(frozen=True)
class Times:
    """Every call of one variant, in the order it was made, in ms."""

    first: float
    warmup: tuple[float, ...]
    steady: tuple[float, ...]


@dataclass(frozen=True)
class Latency:
    """Latency of one variant at one batch size and thread count.

    Attributes:
        batch: images per call.
        threads: intra-op threads.
        first_ms: the first call at this batch size, with the runtime's lazy set-up.
        warmup_ms: the calls after it that are not counted.
        samples_ms: every steady call, in order; the i-th was made beside the i-th of the other variants.
        median_ms: median of the steady calls.
        p90_ms: their 90th percentile.
        p99_ms: their 99th percentile.
        images_per_s: batch / median.
        speedup: median of the reference / median of this variant, above 1 when this one is faster;
            ``None`` for the reference.
    """

    batch: int
    threads: int
    first_ms: float
    warmup_ms: tuple[float, ...]
    samples_ms: tuple[float, ...]
    median_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float
    speedup: Ratio | None = None


def take_turns(
    runners: Mapping[str, Runner],
    feeds: Mapping[str, Array],
    *,
    warmup: int,
    calls: int,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, Times]:
    """Call the variants in turn and keep every time.

    One round calls each variant once. The variant that starts changes from round to round, so that none
    always runs on the caches another has just filled. Python's garbage collector is off meanwhile.

    Args:
        runners: variant name to opened model.
        feeds: input name to array, the same for all.
        warmup: rounds kept apart after the first.
        calls: steady rounds.
        on_round: called after each round, outside the timed part.

    Raises:
        BadInput: there are no runners, ``warmup`` is negative or ``calls`` is not positive.
    """
    if not runners or warmup < 0 or calls < 1:
        raise BadInput(f"timing needs a model, warmup >= 0 and calls >= 1, got {warmup=}, {calls=}")
    names = list(runners)
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(1 + warmup + calls):
            start = turn % len(names)
            for name in names[start:] + names[:start]:
                infer = runners[name].infer
                began = time.perf_counter_ns()
                infer(feeds)
                times[name].append((time.perf_counter_ns() - began) / 1e6)
            on_round()
    finally:
        if collecting:
            gc.enable()
    return {
        name: Times(first=t[0], warmup=tuple(t[1 : 1 + warmup]), steady=tuple(t[1 + warmup :]))
        for name, t in times.items()
    }


def summarize(
    times: Mapping[str, Times], reference: str, *, batch: int, threads: int, seed: int = 0
) -> dict[str, Latency]:
    """Turn the times of one configuration into figures, with speed-ups over the reference.

    Raises:
        BadInput: the reference is not among the variants.
    """
    if reference not in times:
        raise BadInput(f"no variant {reference!r} to compare with; measured: {', '.join(times)}")
    figures: dict[str, Latency] = {}
    for name, own in times.items():
        spread = percentiles(own.steady)
        figures[name] = Latency(
            batch=batch,
            threads=threads,
            first_ms=own.first,
            warmup_ms=own.warmup,
            samples_ms=own.steady,
            median_ms=spread.median,
            p90_ms=spread.p90,
            p99_ms=spread.p99,
            images_per_s=1000 * batch / spread.median,
            speedup=None
            if name == reference
            else ratio_of_medians(times[reference].steady, own.steady, seed=seed),
        )
    return figures
