"""Judge the plans by whole models that were measured side by side with the start."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.placement.plans import Plan
from benchmarks.report.cells import times
from benchmarks.results import Summary, Variant
from benchmarks.statistics import Ratio, ratio_over_processes

__all__ = ["Found", "Judged", "judge"]


@dataclass(frozen=True)
class Judged:
    """A model that was measured.

    Attributes:
        name: of the variant.
        plan: what it leaves in float; None for the start.
        median_ms: of a call.
        speedup: over the start; None for the start.
        drop: points of top-1 that it loses against the float model.
        sqnr_db: of its logits.
        agreement: with the float model, 0 to 1.
        accepted: whether it may take the place of the start.
        text: why, or why not.
    """

    name: str
    plan: Plan | None
    median_ms: float
    speedup: Ratio | None
    drop: float
    sqnr_db: float
    agreement: float
    accepted: bool = True
    text: str = "the start"


@dataclass(frozen=True)
class Found:
    """The end of the search.

    Attributes:
        name: of the variant to take, the start's where nothing is better.
        text: why, in one sentence.
        judged: all of them, the start first.
    """

    name: str
    text: str
    judged: tuple[Judged, ...]


def judge(summary: Summary, start: str, plans: Mapping[str, Plan], max_drop: float) -> Found:
    """Take the fastest model that is within the budget and not slower than the start.

    One that is faster than the start beyond chance is accepted, and one that is not slower by the figures as
    measured if its logits are nearer to the float model's.

    Args:
        summary: of a run that measured them all.
        start: name of the variant that the search began with.
        plans: by the names of the other variants.
        max_drop: points of top-1 that may be lost against the float model.
    """
    variants = {variant.name: variant for variant in summary.variants}
    base, first = summary.base, variants[start]
    noise = summary.noise[0]
    rows = [_row(first, None, None, base)]
    for name, plan in plans.items():
        own = variants[name]
        ratio = ratio_over_processes(_samples(first), _samples(own))
        row = _row(own, plan, ratio, base)
        accepted, text = _verdict(row, rows[0], max_drop, noise.quiet)
        rows.append(replace(row, accepted=accepted, text=text))
    better = [row for row in rows[1:] if row.accepted]
    if better:
        best = max(better, key=lambda row: row.speedup.value if row.speedup else 0.0)
        return Found(best.name, f"{best.name}: {best.text}", tuple(rows))
    lost = rows[0].drop > max_drop
    also = f"; it loses {rows[0].drop:.2f} points itself, more than {max_drop:g}" if lost else ""
    return Found(start, f"{start}: nothing that was tried is better{also}", tuple(rows))


def _verdict(row: Judged, start: Judged, max_drop: float, quiet: bool) -> tuple[bool, str]:
    assert row.speedup is not None
    speed = row.speedup
    said = f"{times(speed.value)} the start's speed ({speed.low:.2f} to {speed.high:.2f})"
    if row.drop > max_drop:
        return False, f"loses {row.drop:.2f} points of top-1, more than {max_drop:g}"
    if not quiet:
        return False, f"{said}, but the float model was not as fast as itself: too noisy to tell"
    if speed.low > 1.0:
        return True, said
    if speed.value < 1.0:
        return False, f"{said}: slower, or not told from it"
    if row.sqnr_db > start.sqnr_db:
        return True, f"as fast as the start, {row.sqnr_db - start.sqnr_db:+.1f} dB nearer to the float model"
    return False, f"{said}: not faster beyond chance, and not nearer to the float model"


def _row(variant: Variant, plan: Plan | None, ratio: Ratio | None, base: Variant) -> Judged:
    own, reference = variant.accuracy, base.accuracy
    assert own is not None, "it was run"
    assert reference is not None, "it was run"
    assert variant.latency, "it was timed"
    return Judged(
        name=variant.name,
        plan=plan,
        median_ms=variant.latency[0].median_ms,
        speedup=ratio,
        drop=100.0 * (reference.top1 - own.top1),
        sqnr_db=own.sqnr_db if own.sqnr_db is not None else float("nan"),
        agreement=own.agreement if own.agreement is not None else float("nan"),
    )


def _samples(variant: Variant) -> NDArray[np.float64]:
    assert variant.latency, "it was timed"
    return variant.latency[0].by_process
