"""A bar for work that tells its phases."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from quant.progress import Progress as Told

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(title: str, known: Mapping[str, int] | None = None) -> Iterator[Told]:
    """One bar per phase on standard error while the block runs, where that is a terminal.

    Args:
        title: of all bars.
        known: steps of phases that do not tell how many there are.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def show(phase: str, done: int, total: int) -> None:
            steps = total or (known or {}).get(phase)
            if phase not in tasks:
                tasks[phase] = progress.add_task(f"{title}: {phase}", total=steps)
            progress.update(tasks[phase], completed=done, total=steps)

        yield show
