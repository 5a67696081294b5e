"""The summary as one page that needs nothing else: no network, no script, light and dark."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from benchmarks.files import write_text
from benchmarks.report.audit import audit_grids, audit_view
from benchmarks.report.cells import decimals, label, percent, times
from benchmarks.report.comparison import comparison, configurations, entry
from benchmarks.report.details import environment_grid, parity_grids, settings_grid
from benchmarks.report.plots import plots
from benchmarks.report.verdict import Verdict, verdicts
from benchmarks.results import Summary, Variant

__all__ = ["html_summary", "save_html"]


@dataclass(frozen=True)
class _Tile:
    value: str
    caption: str


def html_summary(summary: Summary) -> str:
    """The whole page; the same summary gives the same bytes."""
    here = files("benchmarks.report")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = page.from_string((here / "page.html").read_text(encoding="utf-8"))
    return template.render(
        summary=summary,
        style=Markup((here / "style.css").read_text(encoding="utf-8")),
        created=f"{summary.created:%Y-%m-%d %H:%M} UTC",
        verdicts=[(verdict, _tiles(summary, verdict)) for verdict in verdicts(summary)],
        comparison=comparison(summary),
        plots=[(plot, Markup(plot.svg)) for plot in plots(summary)],
        audits=audit_grids(summary),
        parities=parity_grids(summary),
        environment=environment_grid(summary),
        settings=settings_grid(summary),
    )


def save_html(summary: Summary, path: Path) -> None:
    """Write the page; an older one is replaced only by the whole new one.

    Raises:
        BadInput: the folder does not exist or cannot be written.
    """
    write_text(path, html_summary(summary))


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
