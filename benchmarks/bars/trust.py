"""The bars of the comparison itself, on several runs of the same files.

Two runs that are minutes apart differ by more than their own spread tells: what neighbours on a shared
machine do slows integer kernels more than float ones. So whether a null change passes and a slower variant is
found is asked of runs apart and of ``compare --together``, which times both runs' models in turns.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from statistics import fmean

from benchmarks.bars.bar import Bar
from benchmarks.compare.changes import changes
from benchmarks.compare.conditions import parse_condition
from benchmarks.compare.verdicts import check_all
from benchmarks.results import Summary, Variant

__all__ = ["together_bars", "trust_bars"]

_ALLOWED = 0.05
_SLOWER = 1.1
_POINT = 0.01
_LIMIT = "latency_p50 > +5%"


def trust_bars(runs: Mapping[str, Sequence[Summary]]) -> list[Bar]:
    """Whether ratios repeat, a null change passes and a seeded regression is found.

    Args:
        runs: model to its runs, all of the same files; those that call themselves noisy do not count.
    """
    quiet = [[s for s in summaries if all(n.quiet for n in s.noise)] for summaries in runs.values()]
    pairs = [pair for summaries in quiet for pair in permutations(summaries, 2)]
    slower = [(a, _changed(b, _slower)) for a, b in pairs]
    worse = [(a, _changed(b, _less_accurate)) for a, b in pairs]
    return [
        _repeat(runs),
        _share(f"runs apart: a null change passes `{_LIMIT}`", pairs, _LIMIT, fails=False),
        _share("runs apart: +10 % of latency fails it", slower, _LIMIT, fails=True),
        _share("−1 point of top-1 fails `top1 < -0.5`", worse, "top1 < -0.5", fails=True),
    ]


def together_bars(pairs: Sequence[tuple[Summary, Summary]]) -> list[Bar]:
    """Whether a null change passes and a seeded regression is found by ``compare --together``.

    Args:
        pairs: the same files timed twice, in turns.
    """
    slower = [(a, _changed(b, _slower)) for a, b in pairs]
    return [
        _share(f"together: a null change passes `{_LIMIT}`", pairs, _LIMIT, fails=False, together=True),
        _share("together: +10 % of latency fails it", slower, _LIMIT, fails=True, together=True),
    ]


def _repeat(runs: Mapping[str, Sequence[Summary]]) -> Bar:
    """The largest distance of a ratio from the mean of its runs, of the runs that call themselves quiet."""
    worst, flagged = 0.0, 0
    for summaries in runs.values():
        found: dict[tuple[str, int, int], list[float]] = {}
        for summary in summaries:
            for name, batch, threads, ratio in _ratios(summary):
                noise = summary.noise_at(batch, threads)
                if noise is None or not noise.quiet:
                    flagged += 1
                    continue
                found.setdefault((name, batch, threads), []).append(math.log(ratio))
        for logs in found.values():
            worst = max(worst, *(math.expm1(abs(value - fmean(logs))) for value in logs))
    remark = f"{max(map(len, runs.values()))} runs of each model"
    remark += f"; {flagged} ratios were flagged as too noisy and left out" if flagged else ""
    return Bar(
        "the same comparison again: largest change of a ratio", "at most", 5, 100 * worst, " %", remark=remark
    )


def _share(
    what: str,
    pairs: Sequence[tuple[Summary, Summary]],
    condition: str,
    fails: bool,
    together: bool = False,
) -> Bar:
    parsed = [parse_condition(condition)]
    right = sum(
        any(
            c.failed for c in check_all(a, b, changes(a, b, together), parsed) if c.variant.startswith("int8")
        )
        == fails
        for a, b in pairs
    )
    return Bar(what, "at least", len(pairs), right, f" of {len(pairs)}", digits=0)


def _ratios(summary: Summary) -> Iterator[tuple[str, int, int, float]]:
    for variant in summary.others:
        for entry in variant.latency or ():
            if entry.speedup is not None:
                yield variant.name, entry.batch, entry.threads, entry.speedup.value


def _changed(summary: Summary, change: Callable[[Variant], Variant]) -> Summary:
    """The run with its quantized variants made worse."""
    variants = [v if v.name.startswith(summary.reference) else change(v) for v in summary.variants]
    return summary.model_copy(update={"variants": tuple(variants)})


def _slower(variant: Variant) -> Variant:
    entries = [
        type(e)(**vars(e) | {"samples_ms": tuple(_SLOWER * ms for ms in e.samples_ms)})
        for e in variant.latency or ()
    ]
    return variant.model_copy(update={"latency": tuple(entries)})


def _less_accurate(variant: Variant) -> Variant:
    own = variant.accuracy
    if own is None:
        return variant
    return variant.model_copy(update={"accuracy": type(own)(**vars(own) | {"top1": own.top1 - _POINT})})
