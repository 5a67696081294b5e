"""Write a report: the page, the Markdown, and the files that are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.files import write_bytes, write_text
from benchmarks.kit.result import is_result
from benchmarks.report.flat import flat_csv, flat_rows
from benchmarks.report.html import html_report
from benchmarks.report.markdown import markdown_report
from benchmarks.report.runs import Run, load_runs
from quant.errors import BadInput

__all__ = ["PAGE", "Wanted", "write_report"]

PAGE, MARKDOWN = "report.html", "report.md"


@dataclass(frozen=True)
class Wanted:
    """Files besides the page and the Markdown; ``None`` for none.

    Attributes:
        csv: the flat table.
        parquet: the flat table.
        samples: every timed call, as Parquet.
        png: a folder for one picture per chart.
    """

    csv: Path | None = None
    parquet: Path | None = None
    samples: Path | None = None
    png: Path | None = None


def write_report(
    paths: Sequence[Path], out: Path | None = None, wanted: Wanted | None = None
) -> tuple[Path, tuple[Run, ...]]:
    """Write ``report.html`` and ``report.md``, and what else is wanted.

    Everything is made before anything is written, so that a run that cannot be shown leaves no file.

    Args:
        paths: of the runs: their folders or their ``summary.json``; and results of their kits.
        out: the folder of the two files; made if it is absent. By default that of the run, if it is one.
        wanted: other files.

    Returns:
        The page, and the runs.

    Raises:
        BadInput: a run cannot be read, several runs have no ``out``, a file cannot be written, or an optional
            package is missing.
    """
    wanted = wanted or Wanted()
    runs = load_runs(paths)
    if out is None:
        given = [path for path in paths if not is_result(path)]
        if len(given) > 1:
            raise BadInput(f"a report of {len(given)} runs needs a folder to go to: add --out FOLDER")
        out = given[0].parent if given[0].is_file() else given[0]
    files: list[Callable[[], None]] = []
    if wanted.csv is not None:
        files.append(_text(wanted.csv, flat_csv(flat_rows(runs))))
    files += _parquet(runs, wanted)
    if wanted.png is not None:
        files += _pictures(runs, wanted.png)
    files += [_text(out / PAGE, html_report(runs)), _text(out / MARKDOWN, markdown_report(runs))]
    for folder in filter(None, (out, wanted.png)):
        _make(folder)
    for write in files:
        write()
    return out / PAGE, runs


def _parquet(runs: Sequence[Run], wanted: Wanted) -> list[Callable[[], None]]:
    from benchmarks.report.parquet import figures_parquet, samples_parquet

    files = []
    if wanted.parquet is not None:
        files.append(_bytes(wanted.parquet, figures_parquet(runs)))
    if wanted.samples is not None:
        files.append(_bytes(wanted.samples, samples_parquet(runs)))
    return files


def _pictures(runs: Sequence[Run], folder: Path) -> list[Callable[[], None]]:
    from benchmarks.report.charts import chart_groups
    from benchmarks.report.charts.render import png

    charts = [chart for group in chart_groups(runs) for chart in group.charts]
    return [_bytes(folder / f"{chart.name}.png", png(chart)) for chart in charts]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot make the folder {folder}: {error.strerror}") from error


def _text(path: Path, text: str) -> Callable[[], None]:
    return lambda: write_text(path, text)


def _bytes(path: Path, data: bytes) -> Callable[[], None]:
    return lambda: write_bytes(path, data)
