"""The summary as Markdown, for a comment on a pull request."""

import re
from collections.abc import Sequence

from benchmarks.report.analyses import analysis_views
from benchmarks.report.cells import Grid
from benchmarks.report.comparison import comparison
from benchmarks.report.devices import device_grids
from benchmarks.report.overview import overview
from benchmarks.report.runs import Run
from benchmarks.report.verdict import verdicts
from benchmarks.results import Summary
from deploy.markdown import escape, markdown_table

__all__ = ["markdown_grid", "markdown_report", "markdown_summary"]

_LONGEST = 60_000  # characters; the usual limit of a comment is 65,536
_COLUMNS = 5  # of a table that is read without scrolling


def markdown_report(runs: Sequence[Run]) -> str:
    """One run as `markdown_summary` has it; several below a table of all their variants.

    A run with many variants also gets that table, a row each, and its wide one is folded away. Where the
    whole would be longer than a comment may be, the wide tables are left out, which is said.
    """
    many = len(runs) > 1 or len(runs[0].summary.variants) > _COLUMNS - 1
    if not many:
        return _fitting(markdown_summary(runs[0].summary), runs)
    for wide in (True, False):
        parts = ["### " + escape(", ".join(dict.fromkeys(run.summary.model for run in runs))), _rows(runs)]
        if len(runs) > 1:
            parts.append("Speed-ups and changes are against the reference of the same run.")
        parts += [f"{escape(grid.title)}\n\n{markdown_grid(grid)}" for grid in device_grids(runs)]
        for run in runs:
            title = f"{run.name}: {run.summary.recipe}" if len(runs) > 1 else run.summary.recipe
            parts += [f"#### {escape(title)}", _verdicts(run.summary), _source(run.summary)]
            if wide:
                table = markdown_grid(comparison(run.summary))
                parts.append(f"<details><summary>All figures</summary>\n\n{table}\n\n</details>")
        if not wide:
            parts.append("The tables of all figures are too long for a comment; the page has them.")
        text = "\n\n".join(part for part in parts if part) + "\n"
        if len(text) <= _LONGEST:
            break
    return _fitting(text, runs)


def _fitting(text: str, runs: Sequence[Run]) -> str:
    """The text, and behind it the analyses' tables, as many as a comment has room for."""
    for i, run in enumerate(runs):
        for view in analysis_views(run.analyses, f"r{i}"):
            title = f"{view.title}, {run.name}" if len(runs) > 1 else view.title
            tables = [
                f"{escape(grid.title)}\n\n{markdown_grid(grid)}\n\n{escape(note)}"
                for grid, note in view.grids
            ]
            inside = "\n\n".join([*map(escape, view.remarks), *tables]).strip()
            part = f"\n<details><summary>{escape(title)}</summary>\n\n{inside}\n\n</details>\n"
            if len(text) + len(part) > _LONGEST:
                part = f"\n{escape(title)}: too long for a comment; the page has it.\n"
            text += part
    return text


def markdown_summary(summary: Summary) -> str:
    """Verdicts, then the comparison as a table, then the command that computes it again."""
    parts = [
        f"### {escape(summary.model)}, {escape(summary.recipe)}",
        _verdicts(summary),
        markdown_grid(comparison(summary)),
        _source(summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdicts(summary: Summary) -> str:
    return "\n".join(f"- {escape(v.sentence)}" for v in verdicts(summary))


def _source(summary: Summary) -> str:
    e = summary.environment
    where = escape(f"{summary.data}; {e.gpu or e.cpu or e.architecture}, {summary.created:%Y-%m-%d}")
    ticks = "`" * (1 + max(map(len, re.findall("`+", summary.command)), default=0))
    return f"{where}  \n{ticks} {summary.command} {ticks}"


def _rows(runs: Sequence[Run]) -> str:
    table = overview(runs)
    groups = [title for title, span in table.groups for _ in range(span)]
    timed = ("Median", "p99", "Speed-up")
    head = [
        f"{name}, {group[:1].lower()}{group[1:]}" if name in timed else name
        for name, group in zip(table.head, groups, strict=True)
    ]
    rows = [
        (e.label, *(f"{c.text} ({c.more})" if c.more else c.text for c in cells)) for e, cells in table.rows
    ]
    return markdown_grid(Grid("", tuple(head), tuple(rows)))


def markdown_grid(grid: Grid) -> str:
    """A table of text."""
    return markdown_table(grid.head, [_cells(row, len(grid.head)) for row in grid.rows])


def _cells(row: tuple[str, ...], width: int) -> tuple[str, ...]:
    if len(row) == 1:
        return (f"**{escape(row[0])}**", *([""] * (width - 1)))
    return tuple(map(escape, row))
