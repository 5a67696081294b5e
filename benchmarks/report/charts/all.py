"""Which drawings a report has, in the order of the page."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.report.charts.accuracy import accuracy_chart
from benchmarks.report.charts.cost import energy_chart, memory_chart, size_chart
from benchmarks.report.charts.latency import latency_chart, speedup_chart
from benchmarks.report.charts.layers import layer_charts
from benchmarks.report.charts.spec import Chart
from benchmarks.report.charts.trade import energy_trade, latency_trade, size_trade
from benchmarks.report.comparison import configurations, where
from benchmarks.report.runs import Entry, Run, comparable, entries

__all__ = ["ChartGroup", "chart_groups"]


@dataclass(frozen=True)
class ChartGroup:
    """Drawings under one heading.

    Attributes:
        title: the heading.
        charts: at least one.
        folded: whether the reader has to open it first.
    """

    title: str
    charts: tuple[Chart, ...]
    folded: bool = False


def chart_groups(runs: Sequence[Run]) -> tuple[ChartGroup, ...]:
    """All drawings there are figures for.

    Accuracies share a drawing where they were measured on the same images; latency, memory and energy only
    within a run, for another run may be of another machine or another hour.
    """
    found = entries(runs)
    groups = [
        ChartGroup("Accuracy and cost", tuple(_overall(runs, found))),
        *(group for run in runs for group in _speed(runs, run, found)),
        *(group for e in found for group in _profiles(runs, e)),
    ]
    return tuple(group for group in groups if group.charts)


def _overall(runs: Sequence[Run], found: Sequence[Entry]) -> Iterator[Chart]:
    groups = comparable(runs)
    for i, members in enumerate(groups):
        own = [e for e in found if e.run in members]
        end = f"-{i + 1}" if len(groups) > 1 else ""
        suffix = f", {' and '.join(run.name for run in members)}" if len(groups) > 1 else ""
        yield from _present(accuracy_chart(own, f"accuracy{end}", suffix))
        yield from _present(size_trade(own, f"accuracy-size{end}", suffix))
    yield size_chart(found, "size")
    for run in runs:
        own, suffix, end = _of(runs, run, found)
        yield from _present(memory_chart(own, f"memory{end}", suffix))
        yield from _present(energy_chart(own, f"energy{end}", suffix))
        yield from _present(energy_trade(own, f"accuracy-energy{end}", suffix))


def _speed(runs: Sequence[Run], run: Run, found: Sequence[Entry]) -> Iterator[ChartGroup]:
    own, suffix, end = _of(runs, run, found)
    for i, configuration in enumerate(configurations(run.summary)):
        at = f"{end}-batch{configuration[0]}-threads{configuration[1]}"
        charts = (
            latency_trade(own, configuration, f"accuracy-latency{at}", suffix),
            speedup_chart(own, configuration, f"speedup{at}", suffix),
            latency_chart(own, configuration, f"latency{at}", suffix),
        )
        yield ChartGroup(
            f"Speed, {where(configuration)}{suffix}", tuple(c for c in charts if c is not None), i > 0
        )


def _profiles(runs: Sequence[Run], e: Entry) -> Iterator[ChartGroup]:
    profile = e.run.profiles.get(e.variant.name)
    if profile is not None:
        end = f"-{_slug(e.run.name)}" if len(runs) > 1 else ""
        charts = layer_charts(e, profile, f"layers{end}-{_slug(e.variant.name)}")
        yield ChartGroup(f"Layer by layer, {e.label}", tuple(charts))


def _of(runs: Sequence[Run], run: Run, found: Sequence[Entry]) -> tuple[list[Entry], str, str]:
    own = [e for e in found if e.run is run]
    return (own, f", {run.name}", f"-{_slug(run.name)}") if len(runs) > 1 else (own, "", "")


def _present(chart: Chart | None) -> Iterator[Chart]:
    if chart is not None:
        yield chart


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.") or "run"
