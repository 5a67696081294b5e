"""How variants bear load: offline throughput, and latency under random arrivals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.loadgen import Load
from benchmarks.harness.process import Process, Subject
from benchmarks.latency import Latency

__all__ = ["LoadResult", "bench_load", "loads_of"]

_HEADROOM = 3.0  # LoadGen must expect more of `offline` than any variant gives


@dataclass(frozen=True)
class LoadResult:
    """What one variant did under one load.

    Attributes:
        scenario: ``offline`` or ``server``.
        utilization: of ``server``, the arriving images as a share of what the float model can do one by one;
            ``None`` for ``offline``.
        rate: images per second that arrived; of ``offline`` those that were expected.
        batch: images per call.
        threads: intra-op threads.
        images_per_s: images that were answered.
        p50_ms: median from arrival to answer; of ``offline`` from the start.
        p90_ms: the 90th percentile.
        p99_ms: the 99th percentile.
        latency_ms: what 99 % had to keep.
        valid: whether LoadGen calls the result valid.
        reasons: why not.
    """

    scenario: str
    utilization: float | None
    rate: float
    batch: int
    threads: int
    images_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    latency_ms: float
    valid: bool
    reasons: str


def loads_of(
    reference: Latency, utilizations: Sequence[float], seconds: float, batch: int, latency_ms: float | None
) -> list[tuple[float | None, Load]]:
    """The loads for all variants, made from how fast the float model is.

    Args:
        reference: the float model, one image per call.
        utilizations: rates of ``server`` as shares of what that can do.
        seconds: how long each load lasts, at least.
        batch: images per call of ``offline``.
        latency_ms: what 99 % must keep; ten times the float model's median where left out.
    """
    most = 1000 / reference.median_ms
    limit = 10 * reference.median_ms if latency_ms is None else latency_ms
    found: list[tuple[float | None, Load]] = [
        (None, Load("offline", _HEADROOM * most, seconds, batch, limit))
    ]
    found += [(share, Load("server", share * most, seconds, 1, limit)) for share in utilizations]
    return found


def bench_load(
    subjects: Sequence[Subject],
    images: Path,
    loads: Sequence[tuple[float | None, Load]],
    threads: int,
    cpus: tuple[int, ...] | None,
) -> Mapping[str, tuple[LoadResult, ...]]:
    """Put every load on every variant, each in a fresh process, one after the other.

    Args:
        subjects: the variants.
        images: NumPy file [N, C, H, W] of the images that arrive.
        loads: see `loads_of`.
        threads: intra-op threads.
        cpus: the processors they are bound to.

    Raises:
        Unsupported: LoadGen is not installed, or a model cannot be run.
        BadInput: a model cannot be loaded or fed.
    """
    found: dict[str, list[LoadResult]] = {subject.name: [] for subject in subjects}
    for share, load in loads:
        for subject in subjects:
            with Process(subject, threads, cpus, timeout_s=60 + 100 * load.seconds) as process:
                answer = process.load(images, load)
            found[subject.name].append(
                LoadResult(
                    scenario=load.scenario,
                    utilization=share,
                    rate=load.rate,
                    batch=load.batch,
                    threads=threads,
                    latency_ms=load.latency_ms,
                    **answer,
                )
            )
    return {name: tuple(results) for name, results in found.items()}
