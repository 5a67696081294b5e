"""What one calibration of a recipe gives, and whether several keep a limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from benchmarks.bars.bar import Bar
from benchmarks.bars.recipe_rows import Limit

__all__ = ["Outcome", "mixed_bar", "reached"]

WORTH_POINTS, WORTH_DB = 0.5, 1.0
"""Mixed precision must gain one or the other over the uniform width of the same mean."""


@dataclass(frozen=True)
class Outcome:
    """What one draw gave; see :class:`benchmarks.bars.recipe_rows.Limit` for the figures.

    Attributes:
        reference_top1: FP32's, in percent.
        correct: images right.
        images: validation images.
    """

    drop: float
    top1: float
    agreement: float
    sqnr: float
    seconds: float
    reference_top1: float
    correct: int
    images: int


def reached(limit: Limit, outcomes: Sequence[Outcome]) -> bool:
    """Whether the mean over the draws keeps the limit."""
    value = mean(float(getattr(outcome, limit.figure)) for outcome in outcomes)
    return value >= limit.value if limit.kind == "at least" else value <= limit.value


def mixed_bar(uniform: Sequence[Outcome], mixed: Sequence[Outcome]) -> Bar:
    """Mixed precision against one width, on the same draws: the larger gain, as a share of its bar."""
    points = mean(m.top1 - u.top1 for u, m in zip(uniform, mixed, strict=True))
    decibels = mean(m.sqnr - u.sqnr for u, m in zip(uniform, mixed, strict=True))
    return Bar(
        what="mixed 4/6/8 over uniform W6A6: gain of top-1 or SQNR as a share of what is asked",
        kind="at least",
        limit=1.0,
        measured=max(points / WORTH_POINTS, decibels / WORTH_DB),
        remark=f"{points:+.2f} points (asked {WORTH_POINTS:g}), {decibels:+.2f} dB (asked {WORTH_DB:g})",
    )
