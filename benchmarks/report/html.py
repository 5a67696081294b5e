"""The report as one page that needs nothing else: no network, its own library for charts, light and dark."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from benchmarks.report.analyses import AnalysisView, analysis_views
from benchmarks.report.audit import audit_grids, audit_view
from benchmarks.report.cells import Grid, decimals, label, percent, times
from benchmarks.report.charts import ChartGroup, chart_groups
from benchmarks.report.charts.render import runtime, vega
from benchmarks.report.comparison import comparison, configurations, entry
from benchmarks.report.details import environment_grid, parity_grids, settings_grid
from benchmarks.report.devices import device_grids
from benchmarks.report.network import networks
from benchmarks.report.overview import overview
from benchmarks.report.palette import stylesheet
from benchmarks.report.runs import Run, entries
from benchmarks.report.verdict import Verdict, verdicts
from benchmarks.results import Summary, Variant

__all__ = ["html_report"]

_BRIEF = 4  # with more verdicts than these, each is a sentence alone
_SHAPES = {
    "circle": "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z",
    "square": "M-5.5 -5.5h11v11h-11z",
    "diamond": "M0 -7.5L6 0L0 7.5L-6 0z",
    "triangle-up": "M0 -6.5L7 5.5H-7z",
    "triangle-down": "M0 6.5L7 -5.5H-7z",
}


@dataclass(frozen=True)
class _Tile:
    value: str
    caption: str


def html_report(runs: Sequence[Run]) -> str:
    """The whole page; the same runs give the same bytes.

    Raises:
        BadInput: a record of a summary is not what it should be.
    """
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    groups = chart_groups(runs)
    said = [(v, _tiles(run.summary, v), run) for run in runs for v in verdicts(run.summary)]
    models = list(dict.fromkeys(run.summary.model for run in runs))
    recipes = list(dict.fromkeys(run.summary.recipe for run in runs))
    return page.from_string(_file("page.html")).render(
        runs=runs,
        title=", ".join(models),
        subtitle="; ".join(recipes),
        style=Markup(stylesheet()),
        created=", ".join(dict.fromkeys(f"{run.summary.created:%Y-%m-%d %H:%M} UTC" for run in runs)),
        verdicts=said,
        brief=len(said) > _BRIEF,
        overview=overview(runs),
        devices=device_grids(runs),
        shapes=_SHAPES,
        groups=groups,
        networks=networks(entries(runs)),
        audits=_per_run(runs, audit_grids),
        parities=_per_run(runs, parity_grids),
        analyses=_analyses(runs),
        comparisons=[(name, grids[0]) for name, grids in _per_run(runs, lambda s: (comparison(s),))],
        methods=[(run, environment_grid(run.summary), settings_grid(run.summary)) for run in runs],
        specs=Markup(_specs(groups)),
        runtime=Markup(runtime()),
        script=Markup(_file("page.js")),
    )


def _file(name: str) -> str:
    return (files("benchmarks.report") / name).read_text(encoding="utf-8")


def _specs(groups: Sequence[ChartGroup]) -> str:
    """Every drawing by name, as JSON in which no text can end the element around it."""
    found = {chart.name: vega(chart) for group in groups for chart in group.charts}
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _per_run(
    runs: Sequence[Run], tables: Callable[[Summary], tuple[Grid, ...]]
) -> list[tuple[str, tuple[Grid, ...]]]:
    """(name of the run, its tables) of the runs that have any; the name is empty where there is only one."""
    found = [(run.name if len(runs) > 1 else "", tables(run.summary)) for run in runs]
    return [(name, grids) for name, grids in found if grids]


def _analyses(runs: Sequence[Run]) -> list[tuple[str, AnalysisView]]:
    """(name of the run, one of its analyses); the name is empty where there is only one run."""
    return [
        (run.name if len(runs) > 1 else "", view)
        for i, run in enumerate(runs)
        for view in analysis_views(run.analyses, f"r{i}")
    ]


def _tiles(summary: Summary, verdict: Verdict) -> list[_Tile]:
    variant = next(v for v in summary.variants if v.name == verdict.name)
    if variant.accuracy is None and variant.latency is None:
        return []
    found = [_speed_tile(summary, variant), _accuracy_tile(summary, variant), _memory_tile(summary, variant)]
    found.append(_size_tile(summary, variant))
    audit = audit_view(variant)
    if audit is not None:
        found.append(_Tile(percent(audit.total_share), "of multiplications on integers"))
    return [tile for tile in found if tile is not None]


def _speed_tile(summary: Summary, variant: Variant) -> _Tile | None:
    latency = next((e for c in configurations(summary) if (e := entry(variant, c))), None)
    if latency is None or latency.speedup is None:
        return None
    return _Tile(
        times(latency.speedup.value), f"the speed of {label(summary.reference)}, batch {latency.batch}"
    )


def _accuracy_tile(summary: Summary, variant: Variant) -> _Tile | None:
    own, base = variant.accuracy, summary.base.accuracy
    if own is None or base is None:
        return None
    return _Tile(f"{100 * (own.top1 - base.top1):+.1f}".replace("-", "−"), "points of top-1 accuracy")


def _size_tile(summary: Summary, variant: Variant) -> _Tile | None:
    ratio = variant.size_ratio
    if ratio is None or abs(ratio - 1) < 0.01:
        return None
    word = "smaller" if ratio > 1 else "larger"
    return _Tile(times(max(ratio, 1 / ratio)), f"{word} file than {label(summary.reference)}")


def _memory_tile(summary: Summary, variant: Variant) -> _Tile | None:
    own, base = variant.memory, summary.base.memory
    if own is None or base is None:
        return None
    change = own.peak_mib - base.peak_mib
    sign = "−" if change < 0 else "+"
    return _Tile(f"{sign}{decimals(abs(change))} MiB", "peak memory")
