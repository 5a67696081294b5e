"""Which variant to deploy: per target the fastest one within a budget, from measurements on that target.

A variant is worth deploying where it is faster than the float model beyond chance, or where the float model
itself is over the budget. Among those, one that is not slower than the fastest beyond chance counts as
equally fast; of these the one that answers most like the float model is taken. Variants of one run took
turns, so their ratios are known better than their times. How far the float model was from itself, loaded
twice, counts as chance, too: on a machine too noisy to tell, nothing is faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.accuracy import Accuracy
from benchmarks.latency import NOISE_LIMIT, Latency
from benchmarks.report.cells import decimals, label, times
from benchmarks.report.comparison import configurations, entry
from benchmarks.results import Summary, Variant
from benchmarks.statistics import ratio_over_processes
from quant.errors import BadInput

__all__ = ["Budget", "Candidate", "Choice", "choose"]

_MIB = 2.0**20
_NO_TARGETS = ("onnx", "pytorch")  # the float model in plain operators, and models that are no files


@dataclass(frozen=True)
class Budget:
    """What a variant may cost.

    Attributes:
        drop: points of top-1 that it may lose against the float model.
        size_mib: of its file.
        memory_mib: peak of a process that runs it.
    """

    drop: float = 1.0
    size_mib: float | None = None
    memory_mib: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A variant that was looked at.

    Attributes:
        name: of the variant.
        fit: whether it is within the budget and worth deploying.
        text: its figures, or why it is out.
    """

    name: str
    fit: bool
    text: str


@dataclass(frozen=True)
class Choice:
    """What to deploy on one target.

    Attributes:
        target: the runtime.
        name: of the variant; the float model's where nothing is worth deploying; None where nothing was
            measured, or nothing keeps the budget.
        text: why, in one sentence.
        candidates: everything that was looked at.
    """

    target: str
    name: str | None
    text: str
    candidates: tuple[Candidate, ...]


def choose(
    summary: Summary, budget: Budget, batch: int | None = None, threads: int | None = None
) -> list[Choice]:
    """Choose for every target of a run.

    Args:
        summary: what was measured.
        budget: what a variant may cost.
        batch: judge the speed at this many images per call; the first that was measured by default.
        threads: and with this many threads.

    Raises:
        BadInput: the budget is negative, or nothing was timed at that batch size and thread count.
    """
    if budget.drop < 0:
        raise BadInput(f"the budget for top-1 is what may be lost, at least 0 points, got {budget.drop:g}")
    known = configurations(summary)
    fitting = [c for c in known if batch in (None, c[0]) and threads in (None, c[1])]
    if not fitting:
        measured = ", ".join(f"batch {b} with {t} threads" for b, t in known) or "nothing"
        raise BadInput(
            f"nothing was timed at batch {batch or 'any'} with {threads or 'any number of'} threads; "
            f"measured: {measured}"
        )
    targets = dict.fromkeys(v.target for v in summary.others if v.target not in _NO_TARGETS)
    return [_choose(summary, target, budget, fitting[0]) for target in targets]


def _choose(summary: Summary, target: str, budget: Budget, where: tuple[int, int]) -> Choice:
    base = summary.base
    variants = [variant for variant in summary.others if variant.target == target]
    chance = _chance(summary, where)
    judged = [_judge(variant, base, budget, where, chance) for variant in variants]
    fit = [variant for variant, found in zip(variants, judged, strict=True) if found.fit]
    candidates = tuple(judged)
    if not any(entry(variant, where) for variant in variants):
        return Choice(target, None, "nothing was measured on this target", candidates)
    if not fit and (over := _over(base, budget)):
        text = f"no variant keeps the budget, and neither does {label(base.name)}: {'; '.join(over)}"
        return Choice(target, None, text, candidates)
    if not fit:
        text = f"no variant is faster than {label(base.name)} within the budget: deploy {label(base.name)}"
        return Choice(target, base.name, text, candidates)
    best = _best(fit, where)
    text = f"{label(best.name)}: {next(c.text for c in judged if c.name == best.name)}"
    return Choice(target, best.name, text, candidates)


def _chance(summary: Summary, where: tuple[int, int]) -> float:
    """The speed-up over float that float itself, loaded twice, does not rule out."""
    noise = summary.noise_at(*where)
    return 1.0 if noise is None else noise.chance


def _judge(
    variant: Variant, base: Variant, budget: Budget, where: tuple[int, int], chance: float
) -> Candidate:
    latency, own, reference = entry(variant, where), variant.accuracy, base.accuracy
    if latency is None or latency.speedup is None or own is None or reference is None:
        return Candidate(variant.name, False, variant.note or "not measured")
    drop = 100.0 * (reference.top1 - own.top1)
    said = [_speed(latency), _lost(own, reference)]
    out = [] if drop <= budget.drop else [f"more than {budget.drop:g} points of top-1 are lost"]
    out += _over(variant, budget)
    if latency.speedup.low <= chance and not _over(base, budget):
        beyond = f" (float differs from itself by up to {chance:.2f}×)" if chance > 1 + NOISE_LIMIT else ""
        out.append(f"not faster than float beyond chance{beyond}")
    return Candidate(variant.name, not out, ", ".join(said) + (f": out, {'; '.join(out)}" if out else ""))


def _over(variant: Variant, budget: Budget) -> list[str]:
    """Which limits of size and memory a variant breaks."""
    out = []
    if budget.size_mib is not None and variant.size_bytes > budget.size_mib * _MIB:
        out.append(f"its file has {decimals(variant.size_bytes / _MIB)} of {budget.size_mib:g} MiB")
    if budget.memory_mib is not None:
        peak = variant.memory.peak_mib if variant.memory else None
        if peak is None or peak > budget.memory_mib:
            found = "unknown memory" if peak is None else decimals(peak)
            out.append(f"it takes {found} of {budget.memory_mib:g} MiB")
    return out


def _speed(latency: Latency) -> str:
    assert latency.speedup is not None
    s = latency.speedup
    return f"{decimals(latency.median_ms)} ms, {times(s.value)} float's speed ({s.low:.2f} to {s.high:.2f})"


def _lost(own: Accuracy, reference: Accuracy) -> str:
    points, images = 100.0 * (own.top1 - reference.top1), own.correct - reference.correct
    return f"top-1 {points:+.2f} points ({images:+d} of {own.n} images)"


def _best(fit: Sequence[Variant], where: tuple[int, int]) -> Variant:
    def latency(variant: Variant) -> Latency:
        found = entry(variant, where)
        assert found is not None
        return found

    fastest = min(fit, key=lambda variant: latency(variant).median_ms)
    best = latency(fastest).by_process
    equal = [v for v in fit if v is fastest or ratio_over_processes(latency(v).by_process, best).low <= 1.0]
    return max(equal, key=lambda v: (_same(v), -latency(v).median_ms))


def _same(variant: Variant) -> float:
    return (variant.accuracy.agreement or 0.0) if variant.accuracy else 0.0
