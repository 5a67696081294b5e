"""The table across devices: a run's variants here and wherever its kit was measured, on the same samples."""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.accuracy import Accuracy, Predictions
from benchmarks.kit.merge import Measured
from benchmarks.report.cells import DASH, Grid, decimals, label, optional, percent, times
from benchmarks.report.comparison import configurations, entry
from benchmarks.report.runs import Run
from benchmarks.results import Summary
from benchmarks.statistics import Ratio

__all__ = ["device_grids"]

_HEAD = (
    *("", "Top-1", "Change", "As on the host", "Logits off by"),
    *("Median latency", "Speed-up", "Peak memory"),
)
_Row = tuple[str, ...]


def device_grids(runs: Sequence[Run]) -> tuple[Grid, ...]:
    """One table per kit: the host first, then every device, a row per variant.

    "As on the host" is the share of samples with the answer that the host has by the same file, "Logits off
    by" the largest difference of any logit. The device's own tables say why something failed there.

    Accuracy is judged on as many of the kit's samples as every device answered, the host's on the same ones;
    the change is against FP32 of the same device. Latency and memory of the host are those of its run, where
    that has them at the batch size and threads of the first device that was timed.
    """
    known = {run.name: run for run in runs}
    kits: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.device is not None:
            kits.setdefault((run.device.identity, run.device_of), []).append(run)
    return tuple(_grid(known[host], devices) for (_, host), devices in kits.items())


def _grid(host: Run, devices: Sequence[Run]) -> Grid:
    all_measured = [run.device for run in devices if run.device is not None]
    n = min(len(one.labels) for measured in all_measured for one in measured.answers.values())
    rows: list[_Row] = [(f"{host.name}, the host",)]
    timed = (configurations(one.summary) for one in all_measured)
    rows += _host_rows(host.summary, all_measured[0], n, next((where for where in timed if where), ()))
    for run, measured in zip(devices, all_measured, strict=True):
        rows += [(run.name,), *_device_rows(measured, n)]
    title = f"Across devices; accuracy on the same {n} samples"
    return Grid(title, _HEAD, tuple(rows))


def _host_rows(
    summary: Summary, measured: Measured, n: int, where: Sequence[tuple[int, int]]
) -> Iterator[_Row]:
    kit, here = measured.kit, summary.environment.architecture
    keys: dict[str, str] = {}
    for one in kit.variants:
        if one.name != kit.reference or one.machines is None or here in one.machines:
            keys.setdefault(one.name, one.key)  # as on a device: the float model for this machine first
    reference = measured.host[keys[kit.reference]]
    for name, key in keys.items():
        base = None if name == kit.reference else reference
        yield _row(summary, name, measured.judge(measured.host[key], base, n), where, (DASH, DASH), DASH)


def _device_rows(measured: Measured, n: int) -> Iterator[_Row]:
    reference = measured.answers[measured.kit.reference]
    where = configurations(measured.summary)
    for name, one in measured.entries.items():
        judged, against = None, (DASH, DASH)
        if name in measured.answers:
            own, there = measured.answers[name], measured.host[one.key]
            judged = measured.judge(own, None if name == measured.kit.reference else reference, n)
            same = measured.judge(own, there, n).agreement
            against = optional(percent, same), _apart(own, there, n)
        untimed = "emulated" if judged is not None and measured.emulated else "failed"
        untimed = "not run" if name in measured.missing else untimed
        yield _row(measured.summary, name, judged, where, against, untimed)


def _row(
    summary: Summary,
    name: str,
    accuracy: Accuracy | None,
    where: Sequence[tuple[int, int]],
    against: tuple[str, str],
    untimed: str,
) -> _Row:
    variant = next((v for v in summary.variants if v.name == name), None)
    timed = entry(variant, where[0]) if variant is not None and where else None
    memory = None if variant is None else variant.memory
    fits = memory is not None and where and (memory.batch, memory.threads) == where[0]
    return (
        label(name),
        optional(lambda a: percent(a.top1), accuracy),
        DASH if accuracy is None else _change(accuracy),
        *against,
        untimed if timed is None else f"{decimals(timed.median_ms)} ms",
        DASH if timed is None else optional(_speedup, timed.speedup),
        f"{decimals(memory.peak_mib)} MiB" if memory is not None and fits else DASH,
    )


def _speedup(ratio: Ratio) -> str:
    return f"{times(ratio.value)} ({ratio.low:.2f} to {ratio.high:.2f})"


def _change(accuracy: Accuracy) -> str:
    if accuracy.flips is None:
        return DASH
    points = 100 * (accuracy.flips.better - accuracy.flips.worse) / accuracy.n
    return f"{points:+.1f}".replace("-", "−") if points else "0.0"


def _apart(own: Predictions, there: Predictions, n: int) -> str:
    apart = float(np.abs(own.logits[:n].astype(np.float64) - there.logits[:n]).max())
    return f"{apart:.2g}" if apart else "0"
