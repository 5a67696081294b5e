"""The table at the head of the page: a row per variant, which the reader can sort by any column."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.latency import Latency
from benchmarks.report.audit import audit_view
from benchmarks.report.cells import DASH, decimals, percent, size, times
from benchmarks.report.comparison import configurations, entry, where
from benchmarks.report.energy import energy_of
from benchmarks.report.runs import Entry, Run, entries

__all__ = ["Figure", "Overview", "overview"]


@dataclass(frozen=True)
class Figure:
    """One cell.

    Attributes:
        text: what is shown.
        more: shown smaller behind it: an interval.
        sort: what the row is sorted by; ``None`` where nothing was measured, which sorts last both ways.
        tone: ``win``, ``loss`` or nothing: a difference beyond chance.
    """

    text: str
    more: str = ""
    sort: float | None = None
    tone: str = ""


@dataclass(frozen=True)
class Overview:
    """The table.

    Attributes:
        groups: (title, number of columns) above the columns.
        head: titles of the columns, the first of them the variant's.
        rows: the variant and its figures.
    """

    groups: tuple[tuple[str, int], ...]
    head: tuple[str, ...]
    rows: tuple[tuple[Entry, tuple[Figure, ...]], ...]


_NONE = Figure(DASH)
_Show = Callable[[Entry], Figure]


def overview(runs: Sequence[Run]) -> Overview:
    """Every variant of every run; columns that nobody has a figure for are left out."""
    found = entries(runs)
    groups: list[tuple[str, list[tuple[str, _Show]]]] = [
        ("", [("Target", lambda e: Figure(e.variant.target))]),
        (
            "Accuracy",
            [("Top-1", _top1), ("Change", _change), ("Same answer", _agreement), ("Logit SQNR", _sqnr)],
        ),
        *((_capital(where(c)), list(_speed(c))) for c in _configurations(runs)),
        ("Cost", [("Peak memory", _memory), ("File", _file), ("Smaller by", _ratio), ("Energy", _energy)]),
        ("Audit", [("Integer share", _integer)]),
    ]
    columns: list[tuple[str, list[Figure]]] = []
    spans: list[tuple[str, int]] = []
    for title, group in groups:
        shown = [(name, [show(e) for e in found]) for name, show in group]
        shown = [(name, cells) for name, cells in shown if any(cell != _NONE for cell in cells)]
        columns += shown
        spans += [(title, len(shown))] if shown else []
    rows = tuple((e, tuple(cells[i] for _, cells in columns)) for i, e in enumerate(found))
    return Overview((("", 1 + spans[0][1]), *spans[1:]), ("Variant", *(name for name, _ in columns)), rows)


def _configurations(runs: Sequence[Run]) -> tuple[tuple[int, int], ...]:
    return tuple(dict.fromkeys(c for run in runs for c in configurations(run.summary)))


def _top1(e: Entry) -> Figure:
    a = e.variant.accuracy
    if a is None:
        return _NONE
    return Figure(percent(a.top1), f"{100 * a.ci95.low:.1f}–{100 * a.ci95.high:.1f}", a.top1)


def _change(e: Entry) -> Figure:
    own, base = e.variant.accuracy, e.run.summary.base.accuracy
    if own is None or base is None or e.is_reference:
        return _NONE
    points = 100 * (own.top1 - base.top1)
    beyond = own.flips is not None and own.flips.p_value <= 0.05
    text = f"{points:+.1f}".replace("-", "−") if abs(points) >= 0.05 else "0.0"
    tone = ("win" if points > 0 else "loss") if beyond and points else ""
    more = f"+{own.flips.better} / −{own.flips.worse}" if own.flips is not None else ""
    return Figure(text, more, points, tone)


def _agreement(e: Entry) -> Figure:
    a = e.variant.accuracy
    return _NONE if a is None or a.agreement is None else Figure(percent(a.agreement), "", a.agreement)


def _sqnr(e: Entry) -> Figure:
    a = e.variant.accuracy
    return _NONE if a is None or a.sqnr_db is None else Figure(f"{decimals(a.sqnr_db)} dB", "", a.sqnr_db)


def _speed(configuration: tuple[int, int]) -> Iterator[tuple[str, _Show]]:
    def timed(show: Callable[[Latency], Figure]) -> _Show:
        def figure(e: Entry) -> Figure:
            latency = entry(e.variant, configuration)
            return _NONE if latency is None else show(latency)

        return figure

    yield "Median", timed(lambda e: Figure(f"{decimals(e.median_ms)} ms", "", e.median_ms))
    yield "p99", timed(lambda e: Figure(f"{decimals(e.p99_ms)} ms", "", e.p99_ms))
    yield "Speed-up", timed(_speedup)


def _speedup(latency: Latency) -> Figure:
    s = latency.speedup
    if s is None:
        return _NONE
    tone = "win" if s.low > 1 else "loss" if s.high < 1 else ""
    return Figure(times(s.value), f"{s.low:.2f}–{s.high:.2f}", s.value, tone)


def _memory(e: Entry) -> Figure:
    m = e.variant.memory
    return _NONE if m is None else Figure(f"{decimals(m.peak_mib)} MiB", "", m.peak_mib)


def _file(e: Entry) -> Figure:
    return Figure(size(e.variant.size_bytes), "", e.variant.size_bytes)


def _ratio(e: Entry) -> Figure:
    ratio = e.variant.size_ratio
    return _NONE if ratio is None or e.is_reference else Figure(times(ratio), "", ratio)


def _energy(e: Entry) -> Figure:
    energy = energy_of(e.variant)
    return _NONE if energy is None else Figure(f"{decimals(energy.value)} {energy.unit}", "", energy.value)


def _integer(e: Entry) -> Figure:
    audit = audit_view(e.variant)
    return _NONE if audit is None else Figure(percent(audit.total_share), "", audit.total_share)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
