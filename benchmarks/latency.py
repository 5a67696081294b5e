"""What is measured of latency, and the figures that its samples become."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from benchmarks.harness.turns import Times
from benchmarks.statistics import Ratio, percentiles, ratio_over_processes
from quant.errors import BadInput

__all__ = ["NOISE_LIMIT", "Latency", "LatencySettings", "Noise", "noise_of", "summarize"]

NOISE_LIMIT = 0.05
"""How far the float model may be from itself, loaded twice, before a table says that it cannot tell."""


class LatencySettings(BaseModel):
    """How latency is measured.

    Attributes:
        processes: fresh processes per variant; intervals are made of the differences between them.
        warmup: calls per process that are kept apart, after the very first one.
        calls: steady calls per process, the ones every figure is made of.
        turn: steady calls in a row before the next variant has its turn.
        batch_sizes: images per call, each measured on its own.
        threads: intra-op threads, each measured on its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int = Field(default=10, ge=2)
    warmup: PositiveInt = 5
    calls: PositiveInt = 20
    turn: PositiveInt = 5
    batch_sizes: tuple[PositiveInt, ...] = (1,)
    threads: tuple[PositiveInt, ...] = (1,)


@dataclass(frozen=True)
class Latency:
    """Latency of one variant at one batch size and thread count.

    Attributes:
        batch: images per call.
        threads: intra-op threads.
        processes: fresh processes that ran it.
        cpus: the processors they were bound to; ``None`` where they were not.
        load_ms: opening the model, the median of the processes.
        first_ms: the first call at this batch size, with the runtime's lazy set-up, the median of the
            processes.
        warmup_ms: the calls after it that are not counted, process after process.
        samples_ms: every steady call, process after process, equally many of each; the processes of all
            variants lived side by side and took turns.
        median_ms: median of the steady calls.
        p90_ms: their 90th percentile.
        p99_ms: their 99th percentile.
        images_per_s: batch / median.
        speedup: time of the reference / time of this variant, above 1 when this one is faster; ``None`` for
            the reference. See `benchmarks.statistics.ratio_over_processes`.
    """

    batch: int
    threads: int
    processes: int
    cpus: tuple[int, ...] | None
    load_ms: float
    first_ms: float
    warmup_ms: tuple[float, ...]
    samples_ms: tuple[float, ...]
    median_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float
    speedup: Ratio | None = None

    @property
    def by_process(self) -> NDArray[np.float64]:
        """The steady calls in ms [processes, calls]."""
        return np.asarray(self.samples_ms, dtype=np.float64).reshape(self.processes, -1)


@dataclass(frozen=True)
class Noise:
    """How far the reference is from itself: the same file in a second set of processes that took turns, too.

    Attributes:
        batch: images per call.
        threads: intra-op threads.
        ratio: time of the one set / time of the other; 1 but for noise.
    """

    batch: int
    threads: int
    ratio: Ratio

    @property
    def chance(self) -> float:
        """The speed-up, at least 1, that the noise alone does not rule out; a real one lies beyond it."""
        return max(1.0, self.ratio.high, 1 / self.ratio.low)

    @property
    def quiet(self) -> bool:
        """Whether the interval lies within ``NOISE_LIMIT`` of 1: else speed-ups cannot be told."""
        return self.ratio.low >= 1 / (1 + NOISE_LIMIT) and self.ratio.high <= 1 + NOISE_LIMIT


def summarize(
    times: Mapping[str, Sequence[Times]],
    load_ms: Mapping[str, Sequence[float]],
    reference: str,
    *,
    batch: int,
    threads: int,
    cpus: tuple[int, ...] | None = None,
) -> dict[str, Latency]:
    """Turn the times of one configuration into figures, with speed-ups over the reference.

    Args:
        times: variant to the times of each of its processes.
        load_ms: variant to what opening it took in each.
        reference: what the others are compared with.
        batch: images per call.
        threads: intra-op threads.
        cpus: the processors that the processes were bound to.

    Raises:
        BadInput: the reference is not among the variants, or there were fewer than two processes.
    """
    if reference not in times:
        raise BadInput(f"no variant {reference!r} to compare with; measured: {', '.join(times)}")
    base = [own.steady for own in times[reference]]
    figures: dict[str, Latency] = {}
    for name, runs in times.items():
        steady = [own.steady for own in runs]
        samples = tuple(sample for own in steady for sample in own)
        spread = percentiles(samples)
        figures[name] = Latency(
            batch=batch,
            threads=threads,
            processes=len(runs),
            cpus=cpus,
            load_ms=median(load_ms[name]),
            first_ms=median(own.first for own in runs),
            warmup_ms=tuple(sample for own in runs for sample in own.warmup),
            samples_ms=samples,
            median_ms=spread.median,
            p90_ms=spread.p90,
            p99_ms=spread.p99,
            images_per_s=1000 * batch / spread.median,
            speedup=None if name == reference else ratio_over_processes(base, steady),
        )
    return figures


def noise_of(reference: Latency, twin: Latency) -> Noise:
    """Compare the reference with its second set of processes."""
    ratio = ratio_over_processes(reference.by_process, twin.by_process)
    return Noise(reference.batch, reference.threads, ratio)
