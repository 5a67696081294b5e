"""Judge the changes between two runs by the conditions that must not hold."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.compare.changes import Change
from benchmarks.compare.conditions import Condition
from benchmarks.report.comparison import where
from benchmarks.results import Summary
from quant.errors import BadInput

__all__ = ["Check", "check_all", "check_comparable"]


@dataclass(frozen=True)
class Check:
    """One condition on one figure of one variant.

    Attributes:
        variant: its name.
        title: the condition, and where a latency was measured.
        failed: whether it holds, or could not be told though the base run has the figure.
        text: why, in one line.
    """

    variant: str
    title: str
    failed: bool
    text: str


def check_comparable(base: Summary, new: Summary) -> None:
    """Refuse runs whose figures do not belong together.

    Raises:
        BadInput: model, images or reference differ, or no variant is in both.
    """
    for what, then, now in (
        ("models", base.model, new.model),
        ("images", base.data, new.data),
        ("numbers of images", _images(base), _images(new)),
        ("references", base.reference, new.reference),
    ):
        if then != now:
            raise BadInput(f"the runs have different {what}, '{then}' and '{now}'; compare runs of the same")
    if not {v.name for v in base.others} & {v.name for v in new.others}:
        names = [", ".join(v.name for v in summary.others) or "none" for summary in (base, new)]
        raise BadInput(
            f"no variant is in both runs: {names[0]} against {names[1]}; compare runs of one recipe"
        )


def check_all(
    base: Summary, new: Summary, found: Sequence[Change], conditions: Sequence[Condition]
) -> list[Check]:
    """Every condition on every variant other than the reference.

    A condition fails where it holds; for a latency, where it holds, the interval shows a change at all, and
    in both runs the float model agreed with itself. It fails, too, where the base run has the figure and the
    new one has not. A variant that only the base run has is a failure of its own.

    Raises:
        BadInput: the base run has a condition's figure for no variant.
    """
    names = {variant.name for variant in new.others}
    noisy = {where((n.batch, n.threads)) for run in (base, new) for n in run.noise if not n.quiet}
    checks = [
        Check(variant.name, "is there", True, "the new run does not have it")
        for variant in base.others
        if conditions and variant.name not in names
    ]
    for condition in conditions:
        own = [
            change
            for change in found
            if change.metric is condition.metric
            and change.variant != base.reference
            and change.base is not None
        ]
        if not own:
            raise BadInput(
                f"'{condition.text}': the base run has no {condition.metric.title} of any quantized variant"
            )
        checks += [_check(change, condition, change.where in noisy) for change in own]
    return checks


def _images(summary: Summary) -> str:
    return str(summary.base.accuracy.n) if summary.base.accuracy else "none"


def _check(change: Change, condition: Condition, noisy: bool) -> Check:
    title = condition.text + (f" ({change.where})" if change.where else "")
    value = change.relative if condition.percent else change.absolute
    if value is None:
        return Check(change.variant, title, True, "not measured in the new run")
    value = 100.0 * value if condition.percent else value
    text = f"{value:+.2f}{' %' if condition.percent else ' ' + change.metric.unit}"
    failed = condition.holds(value)
    if change.interval is not None:
        low, high = change.interval.low, change.interval.high
        text += f", 95 % interval {100 * low:+.1f} to {100 * high:+.1f} %"
        if failed and low <= 0.0 <= high:
            failed = False
            text += ": no more than chance"
        elif failed and noisy:
            failed = False
            text += ": a machine was too noisy to tell"
    return Check(change.variant, title, failed, text)
