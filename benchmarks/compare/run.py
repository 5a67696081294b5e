"""``octavo compare``: read two runs, say what changed, and fail where it may not."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.compare.changes import Change, changes
from benchmarks.compare.conditions import parse_condition
from benchmarks.compare.show import Comparison
from benchmarks.compare.together import time_together
from benchmarks.compare.verdicts import check_all, check_comparable
from benchmarks.measure_run import SUMMARY
from benchmarks.report.comparison import where
from benchmarks.results import Summary, load_summary
from deploy.pipeline.line import Line, open_run
from quant.errors import BadInput

__all__ = ["compare_runs"]


def compare_runs(base: Path, new: Path, conditions: Sequence[str] = (), together: bool = False) -> Comparison:
    """Compare two runs.

    Args:
        base: the folder of the run before, or its summary.
        new: the folder of the run now, or its summary.
        conditions: what must not happen, see :mod:`benchmarks.compare.conditions`.
        together: time the models of both again, side by side; both have to be folders then.

    Raises:
        BadInput: a summary cannot be read, the runs do not belong together, or a condition is none.
    """
    wanted = [parse_condition(text) for text in conditions]
    a, b = (load_summary(path / SUMMARY if path.is_dir() else path) for path in (base, new))
    check_comparable(a, b)
    if together:
        a, b = time_together((_opened(base), a), (_opened(new), b))
    found = changes(a, b, together)
    remarks = _remarks(a, b, found, together)
    if together:
        remarks = ["latencies: of the models of both runs, timed again side by side", *remarks]
    return Comparison(a, b, found, check_all(a, b, found, wanted), remarks)


def _opened(folder: Path) -> Line:
    if not folder.is_dir():
        raise BadInput(f"{folder}: to time both runs again, give their folders, not their summaries")
    return open_run(folder)


def _remarks(base: Summary, new: Summary, found: Sequence[Change], together: bool) -> list[str]:
    """Differences between the environments, and how the reference's latency changed."""
    then, now = asdict(base.environment), asdict(new.environment)
    packages = {**then.pop("packages"), **now["packages"]}
    remarks = [
        f"{name}: {base.environment.packages.get(name, 'none')} → "
        f"{new.environment.packages.get(name, 'none')}"
        for name in packages
        if base.environment.packages.get(name) != new.environment.packages.get(name)
    ]
    remarks += [f"{name}: {then[name]} → {now[name]}" for name in then if then[name] != now[name]]
    for which, summary in (("base", base), ("new", new)):
        remarks += [
            f"{which} run: too noisy to tell at {where((n.batch, n.threads))}: {summary.reference} took "
            f"{n.ratio.low:.2f} to {n.ratio.high:.2f} of its own time"
            for n in summary.noise
            if not n.quiet
        ]
    only = {v.name for v in new.others} - {v.name for v in base.others}
    remarks += [f"only the new run has {name}" for name in sorted(only)]
    for change in () if together else found:  # side by side nothing has to be taken out
        if change.variant == base.reference and change.metric.name == "latency_p50" and change.relative:
            remarks.append(
                f"{base.reference} itself changed by {100 * change.relative:+.1f} % ({change.where}): taken "
                "for the machine's speed, and out of the latencies of the others"
            )
    return remarks
