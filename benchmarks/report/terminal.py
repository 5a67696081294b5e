"""The summary in a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.report.cells import Grid
from benchmarks.report.comparison import comparison
from benchmarks.report.verdict import Tone, verdicts
from benchmarks.results import Summary

__all__ = ["print_grid", "print_summary"]

_STYLES = {Tone.WIN: "bold green", Tone.MIXED: "bold yellow", Tone.LOSS: "bold red", Tone.UNKNOWN: "dim"}


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Print the comparison and a verdict per variant."""
    console = console or Console()
    grid = comparison(summary)
    console.print(_table(grid, f"{summary.model}, {summary.recipe}"))
    for verdict in verdicts(summary):
        console.print(Text(verdict.sentence, style=_STYLES[verdict.tone]))


def print_grid(grid: Grid, console: Console) -> None:
    """Print a table of text under its title."""
    console.print(_table(grid, grid.title))


def _table(grid: Grid, title: str) -> Table:
    # Text, not str: a bracket in a name is not markup.
    table = Table(title=Text(title), title_justify="left", title_style="bold", header_style="bold")
    for i, name in enumerate(grid.head):
        table.add_column(Text(name), justify="left" if i == 0 else "right", overflow="fold")
    for row in grid.rows:
        if len(row) == 1:
            table.add_section()
        table.add_row(*map(Text, row), style="bold" if len(row) == 1 else None)
    return table
