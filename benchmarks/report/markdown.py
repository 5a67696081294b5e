"""The summary as Markdown, for a comment on a pull request."""

import re

from benchmarks.report.cells import Grid
from benchmarks.report.comparison import comparison
from benchmarks.report.verdict import verdicts
from benchmarks.results import Summary

__all__ = ["markdown_grid", "markdown_summary"]


def markdown_summary(summary: Summary) -> str:
    """Verdicts, then the comparison as a table, then the command that computes it again."""
    said = "\n".join(f"- {_escape(v.sentence)}" for v in verdicts(summary))
    e = summary.environment
    where = _escape(f"{summary.data}; {e.cpu or e.architecture}, {summary.created:%Y-%m-%d}")
    ticks = "`" * (1 + max(map(len, re.findall("`+", summary.command)), default=0))
    parts = [
        f"### {_escape(summary.model)}, {_escape(summary.recipe)}",
        said,
        markdown_grid(comparison(summary)),
        f"{where}  \n{ticks} {summary.command} {ticks}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_grid(grid: Grid) -> str:
    """A table of text."""
    lines = [
        _line(grid.head),
        _line((":--", *("--:" for _ in grid.head[1:]))),
        *(_line(_cells(row, len(grid.head))) for row in grid.rows),
    ]
    return "\n".join(lines)


def _cells(row: tuple[str, ...], width: int) -> tuple[str, ...]:
    if len(row) == 1:
        return (f"**{_escape(row[0])}**", *([""] * (width - 1)))
    return tuple(map(_escape, row))


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Keep Markdown from reading names as markup, and a cell in its column."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(text.split()))
