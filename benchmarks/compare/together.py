"""Time the models of two runs again, side by side.

The ratio of a quantized model to the float one is not the same in every hour of a shared machine: what the
neighbours do slows integer kernels more than others. Within a run that hits all variants alike; from one run
to the next it looks like a change. Here both runs' models take turns, so that it hits both, and each process
is timed for a while even where a call is short. How far two sets of processes of one file are apart is in the
interval of the pairs itself, so that the float model against itself need not be asked.
"""

import math
from dataclasses import replace

import numpy as np
from rich.console import Console

from benchmarks.bench import BenchSettings, Candidate, Speed, bench_speed
from benchmarks.results import Summary, Variant
from benchmarks.run_variants import PLAIN, bench_settings, candidates
from deploy.pipeline.line import Line
from quant.data.batches import batches
from quant.errors import BadInput

__all__ = ["time_together"]

_BASE, _NEW = "base", "new"
_LEAST_MS, _MOST = 400.0, 10


def time_together(
    base: tuple[Line, Summary], new: tuple[Line, Summary], console: Console | None = None
) -> tuple[Summary, Summary]:
    """The summaries with latencies of a new measurement of both, by the new run's settings, without noise.

    Args:
        base: the run before, and what it measured.
        new: those of the run now.
        console: where progress is drawn; standard error when left out.

    Raises:
        BadInput: no variant was timed in both.
        Unsupported: a model cannot be run here.
    """
    lines = {_BASE: base[0], _NEW: new[0]}
    known = {side: {c.name: c for c in candidates(line)} for side, line in lines.items()}
    names = [
        variant.name
        for variant in base[1].variants
        if variant.name in known[_BASE] and variant.name in known[_NEW] and variant.latency
        if variant.name != PLAIN  # it is no variant to deploy
    ]
    if base[1].reference not in names or len(names) < 2:
        raise BadInput("the runs have no quantized variant that can be timed here in both")
    asked: list[Candidate] = [
        replace(known[side][name], name=_called(side, name)) for name in names for side in lines
    ]
    line = lines[_NEW]
    size = line.batch_size(max(line.config.bench.batch_sizes))
    some = next(iter(batches(line.validation, line.loaded.preprocessing, size))).images
    speed = bench_speed(
        asked,
        np.asarray(some, dtype=np.float32),
        _long_enough(bench_settings(line), base[1]),
        reference=_called(_BASE, base[1].reference),
        console=console,
    )
    return _with(base[1], _BASE, speed), _with(new[1], _NEW, speed)


def _called(side: str, name: str) -> str:
    return f"{side} {name}"


def _with(summary: Summary, side: str, speed: Speed) -> Summary:
    def timed(variant: Variant) -> Variant:
        return variant.model_copy(update={"latency": speed.latency.get(_called(side, variant.name))})

    variants = tuple(timed(variant) for variant in summary.variants)
    return summary.model_copy(update={"variants": variants, "noise": ()})


def _long_enough(settings: BenchSettings, known: Summary) -> BenchSettings:
    """So many calls that the fastest variant is timed for ``_LEAST_MS`` in each process, within reason."""
    fastest = min(entry.median_ms for v in known.variants for entry in v.latency or ())
    asked = settings.latency.calls
    calls = min(max(asked, math.ceil(_LEAST_MS / fastest)), _MOST * asked)
    latency = settings.latency.model_copy(update={"calls": calls})
    return settings.model_copy(update={"latency": latency})
