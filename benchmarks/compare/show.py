"""A comparison for people, for a pull request and for a CI system."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.compare.changes import Change
from benchmarks.compare.verdicts import Check
from benchmarks.report.cells import DASH, Grid, decimals, label
from benchmarks.report.markdown import markdown_grid
from benchmarks.results import Summary
from deploy.junit import Case
from deploy.junit import junit as write_junit

__all__ = ["Comparison", "grid_of", "junit", "markdown", "to_dict"]


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        base: the run before.
        new: the run now.
        changes: of every figure.
        checks: of every condition.
        remarks: what differs between the runs besides the figures, in words.
    """

    base: Summary
    new: Summary
    changes: Sequence[Change]
    checks: Sequence[Check]
    remarks: Sequence[str]

    @property
    def failed(self) -> bool:
        """Whether any condition failed."""
        return any(check.failed for check in self.checks)


def grid_of(comparison: Comparison) -> Grid:
    """A row per figure, headed by its variant."""
    rows: list[tuple[str, ...]] = []
    for variant in dict.fromkeys(change.variant for change in comparison.changes):
        rows.append((label(variant),))
        rows += [_row(change) for change in comparison.changes if change.variant == variant]
    return Grid("Changes", ("", "Base", "New", "Change"), tuple(rows))


def markdown(comparison: Comparison) -> str:
    """For a comment on a pull request."""
    checks = [
        f"- {'❌' if check.failed else '✅'} {label(check.variant)}: `{check.title}` — {check.text}"
        for check in comparison.checks
    ]
    remarks = [f"- {remark}" for remark in comparison.remarks]
    title = f"### {comparison.new.model}: {'a condition failed' if comparison.failed else 'compared'}"
    parts = [title, "\n".join(checks), markdown_grid(grid_of(comparison)), "\n".join(remarks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def junit(comparison: Comparison) -> str:
    """One test case per check, for CI systems."""
    cases = [
        Case(check.variant, check.title, check.text if check.failed else None, check.text)
        for check in comparison.checks
    ]
    return write_junit("octavo compare", cases)


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """For machines."""
    return {
        "failed": comparison.failed,
        "checks": [asdict(check) for check in comparison.checks],
        "changes": [
            {
                "variant": change.variant,
                "figure": change.metric.name,
                "unit": change.metric.unit,
                "where": change.where,
                **{key: _finite(getattr(change, key)) for key in ("base", "new", "absolute", "relative")},
                "interval": None if change.interval is None else asdict(change.interval),
            }
            for change in comparison.changes
        ],
        "remarks": list(comparison.remarks),
    }


def _finite(value: float | None) -> float | str | None:
    """JSON has no infinity; summaries write it as text, too."""
    return value if value is None or math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _row(change: Change) -> tuple[str, ...]:
    unit = change.metric.unit
    shown = "%" if unit == "points" else unit
    values = [DASH if v is None else f"{decimals(v)} {shown}" for v in (change.base, change.new)]
    title = change.metric.title + (f", {change.where}" if change.where else "")
    return (title, *values, _words(change))


def _words(change: Change) -> str:
    if change.absolute is None:
        return DASH
    if not change.metric.relative or change.relative is None:
        return f"{change.absolute:+.2f} {change.metric.unit}"
    text = f"{100 * change.relative:+.1f} %"
    if change.interval is not None:
        text += f" ({100 * change.interval.low:+.1f} to {100 * change.interval.high:+.1f})"
    return text
