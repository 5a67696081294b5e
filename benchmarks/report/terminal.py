"""The summary in a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.report.cells import Grid
from benchmarks.report.comparison import comparison
from benchmarks.report.overview import overview
from benchmarks.report.runs import Run
from benchmarks.report.verdict import Tone, verdicts
from benchmarks.results import Summary

__all__ = ["brief", "print_grid", "print_summary"]

_STYLES = {Tone.WIN: "bold green", Tone.MIXED: "bold yellow", Tone.LOSS: "bold red", Tone.UNKNOWN: "dim"}


_MOST = 8  # variants that a terminal has room for side by side
_BRIEF = ("Top-1", "Change", "Same answer", "Logit SQNR", "Speed-up", "File", "Integer share")


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Print the comparison and a verdict per variant; of many variants a row each, and no verdicts."""
    console = console or Console()
    if len(summary.variants) > _MOST:
        console.print(_table(brief(summary), f"{summary.model}, {len(summary.variants)} variants", True))
        return
    console.print(_table(comparison(summary), f"{summary.model}, {summary.recipe}"))
    for verdict in verdicts(summary):
        console.print(Text(verdict.sentence, style=_STYLES[verdict.tone]))


def brief(summary: Summary) -> Grid:
    """A row for each variant: its most telling figures, speed at the first batch size and thread count."""
    whole = overview((Run("", summary),))
    names = list(whole.head[1:])
    chosen = [names.index(name) for name in _BRIEF if name in names]
    rows = ((e.label, *(cells[i].text for i in chosen)) for e, cells in whole.rows)
    return Grid("", ("", *(names[i] for i in chosen)), tuple(rows))


def print_grid(grid: Grid, console: Console) -> None:
    """Print a table of text under its title."""
    console.print(_table(grid, grid.title))


def _table(grid: Grid, title: str, whole_names: bool = False) -> Table:
    # Text, not str: a bracket in a name is not markup.
    table = Table(title=Text(title), title_justify="left", title_style="bold", header_style="bold")
    for i, name in enumerate(grid.head):
        table.add_column(
            Text(name), justify="right" if i else "left", overflow="fold", no_wrap=i == 0 and whole_names
        )
    for row in grid.rows:
        if len(row) == 1:
            table.add_section()
        table.add_row(*map(Text, row), style="bold" if len(row) == 1 else None)
    return table
