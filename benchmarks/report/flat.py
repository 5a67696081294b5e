"""The figures as one flat table, a row per run, variant, batch size and thread count; and every call."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from benchmarks.latency import Latency
from benchmarks.report.audit import audit_view
from benchmarks.report.runs import Run
from benchmarks.results import Variant

__all__ = ["SAMPLE_COLUMNS", "Cell", "columns", "flat_csv", "flat_rows", "sample_rows"]

Cell = str | int | float | bool | None

SAMPLE_COLUMNS = ("run", "variant", "batch", "threads", "phase", "call", "ms")
"""Of the raw latencies. ``phase`` is first, warmup or steady; ``call`` counts from 0 within its phase."""

_APART = {"name", "target", "file", "size_bytes", "size_ratio", "note", "latency", "audit", "parity"}
_CALLS = {"samples_ms", "warmup_ms", "peaks_mib"}


def flat_rows(runs: Sequence[Run]) -> list[dict[str, Cell]]:
    """One row per run, variant and timed configuration; one without times for a variant that was not timed.

    Nested figures get joined names: ``accuracy_top1``, ``latency_speedup_low``, ``memory_peak_mib``. What a
    later version of the summary adds appears under its own name.
    """
    return [row for run in runs for variant in run.summary.variants for row in _of(run, variant)]


def columns(rows: Sequence[Mapping[str, Cell]]) -> tuple[str, ...]:
    """Every column that occurs, in the order of first sight."""
    return tuple(dict.fromkeys(name for row in rows for name in row))


def flat_csv(rows: Sequence[Mapping[str, Cell]]) -> str:
    """The rows as CSV; what was not measured is an empty cell, truth is ``true`` or ``false``."""
    text = StringIO(newline="")
    table = csv.DictWriter(text, columns(rows), lineterminator="\n")
    table.writeheader()
    table.writerows({k: str(v).lower() if isinstance(v, bool) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def sample_rows(runs: Sequence[Run]) -> Iterator[tuple[Cell, ...]]:
    """Every timed call of every variant, as :data:`SAMPLE_COLUMNS`."""
    for run in runs:
        for variant in run.summary.variants:
            for e in variant.latency or ():
                start = (run.name, variant.name, e.batch, e.threads)
                phases = {"first": (e.first_ms,), "warmup": e.warmup_ms, "steady": e.samples_ms}
                for phase, calls in phases.items():
                    yield from ((*start, phase, i, ms) for i, ms in enumerate(calls))


def _of(run: Run, variant: Variant) -> Iterator[dict[str, Cell]]:
    summary, audit = run.summary, audit_view(variant)
    dumped = variant.model_dump(mode="python")
    row: dict[str, Cell] = {
        "run": run.name,
        "model": summary.model,
        "recipe": summary.recipe,
        "data": summary.data,
        "created": summary.created.isoformat(),
        "cpu": summary.environment.cpu,
        "architecture": summary.environment.architecture,
        "variant": variant.name,
        "reference": variant.name == summary.reference,
        "target": variant.target,
        "batch": None,
        "threads": None,
        "file": variant.file,
        "note": variant.note,
        "size_bytes": variant.size_bytes,
        "size_ratio": variant.size_ratio,
        "integer_share": None if audit is None else audit.total_share,
        "integer_share_of_weights": None if audit is None else audit.weight_share,
    }
    for name, value in dumped.items():
        if name not in _APART:
            row |= _scalars(value, name)
    timed: Sequence[Latency | None] = variant.latency or (None,)
    for i, latency in enumerate(timed):
        more: dict[str, Cell] = {}
        if latency is not None:
            more = {"batch": latency.batch, "threads": latency.threads}
            rest = {k: v for k, v in dumped["latency"][i].items() if k not in more}
            more |= _scalars(rest, "latency")
        yield row | more


def _scalars(value: Any, name: str) -> dict[str, Cell]:
    """Single figures below a value, each under its joined name; lists of calls are not for this table."""
    if isinstance(value, Mapping):
        return {
            k: v
            for key, entry in value.items()
            if key not in _CALLS
            for k, v in _scalars(entry, f"{name}_{key}").items()
        }
    if value is None or isinstance(value, list | tuple):
        return {}
    if isinstance(value, float) and math.isnan(value):
        return {name: None}
    return {name: value if isinstance(value, str | int | float | bool) else str(value)}
