"""What an analysis finds, and the folder it is kept in."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from benchmarks.files import plain_json
from benchmarks.profile.drawing import Drawing
from quant.errors import BadInput, InternalError

__all__ = ["FOLDER", "Cell", "Findings", "Table", "read_findings", "write_findings"]

FOLDER = "analyses"  # in a run
SUMMARY, PLOTS = "summary.json", "plots"
Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Attributes:
        name: of its file, without the suffix.
        title: what it shows.
        columns: with units where there are any.
        rows: one cell for each column, the first naming the row; ``None`` where there is nothing to say.
        note: what the reader must know about it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Findings:
    """All that an analysis found.

    Attributes:
        tables: for the report, and as CSV.
        drawings: likewise, and as SVG.
        figures: for machines.
        remarks: sentences for the reader, put first.
        title: what the report calls it; made of the analysis' label when empty.
    """

    tables: tuple[Table, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    figures: Mapping[str, JsonValue] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    title: str = ""


def write_findings(found: Findings, folder: Path) -> None:
    """Write ``summary.json``, a CSV for each table and ``plots/*.svg`` into a folder, which is made.

    Raises:
        InternalError: a row of a table has too few or too many cells, or two tables or drawings share a name.
    """
    for names in ([t.name for t in found.tables], [d.name for d in found.drawings]):
        if len(set(names)) != len(names):
            raise InternalError(f"an analysis gave two parts of one name: {', '.join(names)}")
    folder.mkdir(parents=True)
    for table in found.tables:
        if any(len(row) != len(table.columns) for row in table.rows):
            raise InternalError(f"table {table.name}: a row does not have {len(table.columns)} cells")
        with (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])
    for drawing in found.drawings:
        path = folder / PLOTS / f"{drawing.name}.svg"
        path.parent.mkdir(exist_ok=True)
        path.write_text(drawing.svg, encoding="utf-8")
    values = {
        "title": found.title or folder.name.replace("_", " "),
        "remarks": list(found.remarks),
        "figures": dict(found.figures),
        "tables": [asdict(table) for table in found.tables],
        "drawings": [drawing.name for drawing in found.drawings],
    }
    text = json.dumps(plain_json(values), indent=1)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")


def read_findings(folder: Path) -> Findings:
    """Read what :func:`write_findings` wrote; numbers that JSON does not know come back as their names.

    Raises:
        BadInput: a file is missing or is not what it should be.
    """
    try:
        values: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        drawings = [
            Drawing(name, (folder / PLOTS / f"{name}.svg").read_text(encoding="utf-8"))
            for name in values["drawings"]
        ]
        return Findings(
            tables=tuple(map(_table, values["tables"])),
            drawings=tuple(drawings),
            figures=values["figures"],
            remarks=tuple(values["remarks"]),
            title=values["title"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}: is not what an analysis left ({error}); run it again") from error


def _table(values: Mapping[str, Any]) -> Table:
    rows: Sequence[Sequence[Cell]] = values["rows"]
    return Table(
        name=values["name"],
        title=values["title"],
        columns=tuple(values["columns"]),
        rows=tuple(map(tuple, rows)),
        note=values["note"],
    )
