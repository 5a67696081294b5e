"""A bar: what is promised, what was measured, and whether it holds."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quant.errors import BadInput, Unsupported

__all__ = ["Bar", "in_one_line", "print_bars", "to_dicts"]


@dataclass(frozen=True)
class Bar:
    """One row of the table.

    Attributes:
        what: the figure.
        kind: ``at least`` or ``at most``.
        limit: the bar.
        measured: the figure found.
        unit: behind both numbers.
        digits: decimals shown.
        remark: what a reader must know, or ''.
    """

    what: str
    kind: Literal["at least", "at most"]
    limit: float
    measured: float
    unit: str = ""
    digits: int = 2
    remark: str = ""

    @property
    def reached(self) -> bool:
        """Whether the bar is met."""
        return self.measured >= self.limit if self.kind == "at least" else self.measured <= self.limit


def in_one_line(name: str, main: Callable[[], int]) -> int:
    """Do a command; what it refuses ends in one line and exit code 2, as that of ``octavo`` does."""
    try:
        return main()
    except (BadInput, Unsupported) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def to_dicts(bars: Sequence[Bar]) -> list[dict[str, Any]]:
    """For JSON."""
    return [{**asdict(bar), "reached": bar.reached} for bar in bars]


def print_bars(bars: Sequence[Bar], console: Console) -> None:
    """Print the table, bars missed in words as well as in colour."""
    table = Table(title="Bars")
    table.add_column("What")
    table.add_column("Bar", justify="right")
    table.add_column("Measured", justify="right")
    table.add_column("")
    for bar in bars:
        sign = "≥" if bar.kind == "at least" else "≤"
        table.add_row(
            bar.what + (f"\n[dim]{escape(bar.remark)}[/dim]" if bar.remark else ""),
            f"{sign} {bar.limit:g}{bar.unit}",
            f"{bar.measured:.{bar.digits}f}{bar.unit}",
            "[green]reached[/green]" if bar.reached else "[red]missed[/red]",
        )
    console.print(table)
