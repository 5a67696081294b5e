"""What a run's analyses found, for the page and for Markdown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from pydantic import JsonValue

from benchmarks.analyses.findings import FOLDER, Findings, Table, read_findings
from benchmarks.profile.drawing import Drawing
from benchmarks.report.cells import Grid, plain

__all__ = ["AnalysisView", "analysis_views", "read_analyses"]


@dataclass(frozen=True)
class AnalysisView:
    """One analysis as it is shown.

    Attributes:
        title: its heading.
        remarks: sentences before everything else.
        grids: its tables, each with its note.
        drawings: their names and their SVG elements, whose ids are unique on the page.
    """

    title: str
    remarks: tuple[str, ...]
    grids: tuple[tuple[Grid, str], ...]
    drawings: tuple[tuple[str, Markup], ...]


def read_analyses(run: Path, settings: Mapping[str, JsonValue]) -> dict[str, Findings]:
    """The findings of a run by label, of those analyses that its settings name and that were done.

    Args:
        run: its folder.
        settings: as its summary has them.

    Raises:
        BadInput: a folder is not what an analysis left.
    """
    entries = settings.get("analyses")
    found = {}
    for entry in entries if isinstance(entries, list | tuple) else ():
        label = str(entry.get("label") or entry.get("name")) if isinstance(entry, dict) else ""
        folder = run / FOLDER / label
        if re.fullmatch(r"[a-z0-9_]+", label) and folder.is_dir():
            found[label] = read_findings(folder)
    return found


def analysis_views(findings: Mapping[str, Findings], prefix: str) -> tuple[AnalysisView, ...]:
    """The findings of a run.

    Args:
        findings: by label.
        prefix: put before ids; another one for each run of a page.
    """
    return tuple(
        AnalysisView(
            title=found.title[:1].upper() + found.title[1:],
            remarks=found.remarks,
            grids=tuple((_grid(table), table.note) for table in found.tables),
            drawings=tuple((d.name, _inline(d, f"{prefix}-{label}")) for d in found.drawings),
        )
        for label, found in findings.items()
    )


def _grid(table: Table) -> Grid:
    return Grid(table.title, table.columns, tuple(tuple(map(plain, row)) for row in table.rows))


def _inline(drawing: Drawing, prefix: str) -> Markup:
    """The element alone: the page has the colours, and ids must not meet those of another drawing."""
    svg = drawing.svg[drawing.svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return Markup(re.sub(r"""(url\(|href=")#""", rf"\1#{prefix}-", svg))
