"""The cells of a grid of recipes in one table, also those that there cannot be, and label against label.

Recipes are told apart by their names, which a grid makes of its labels (:mod:`quant.recipe_file`). All
figures are those of the run's summary; energies are modelled (:mod:`benchmarks.energy`).
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from benchmarks.analyses.cells_tables import KEYS, Known, best_table, cells_table, figures_of, pairs_table
from benchmarks.analyses.findings import Findings
from benchmarks.analyses.registry import register_analysis
from benchmarks.results import Summary, load_summary
from deploy.pipeline.line import Line
from quant.errors import BadInput
from quant.progress import Progress

__all__ = ["Absent", "CellsOptions", "Pair", "cells", "cells_of"]

_MISSING = "not in this run"


class Absent(BaseModel):
    """Cells that the run has not, and why.

    Attributes:
        cell: axis to label; axes left out match all.
        reason: one sentence for the table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: dict[str, str] = Field(min_length=1)
    reason: str


class Pair(BaseModel):
    """Two labels of an axis, to be compared wherever both are.

    Attributes:
        axis: of them.
        base: what is compared with.
        change: what is compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: str
    base: str
    change: str


class CellsOptions(BaseModel):
    """Options.

    Attributes:
        names: how recipes are named, with the axes in braces, as in the grid. A recipe that is named in this
            way with other labels has a row, too, behind the cells.
        axes: axis to labels, in the order of the table: each combination is a cell.
        absent: cells that are not in the run on purpose; the first match counts.
        pairs: labels to compare.
        best_of: an axis: the most accurate recipe of each of its labels is told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: str
    axes: dict[str, tuple[str, ...]] = Field(min_length=1)
    absent: tuple[Absent, ...] = ()
    pairs: tuple[Pair, ...] = ()
    best_of: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        wanted = sorted(re.findall(r"{([^{}]*)}", self.names))
        if wanted != sorted(self.axes):
            raise ValueError(f"names: '{self.names}' must have each of {', '.join(self.axes)} once in braces")
        for axis in [*(pair.axis for pair in self.pairs), *([self.best_of] if self.best_of else [])]:
            if axis not in self.axes:
                raise ValueError(f"there is no axis '{axis}'; known: {', '.join(self.axes)}")
        for axis, label in [item for entry in self.absent for item in entry.cell.items()]:
            if label not in self.axes.get(axis, ()):
                raise ValueError(f"absent: axis '{axis}' has no label '{label}'; axes are {self.axes}")
        return self

    def every_cell(self) -> Iterator[dict[str, str]]:
        """All cells of the grid; the last axis varies fastest."""
        for labels in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, labels, strict=True))

    def name_of(self, cell: Mapping[str, str]) -> str:
        """The recipe of a cell."""
        return self.names.format(**cell)

    def labels_of(self, name: str) -> dict[str, str] | None:
        """The labels in a recipe's name, None where it is not named like a cell."""
        parts = (
            f"(?P<{p[1:-1]}>.+?)" if p[:1] == "{" else re.escape(p) for p in re.split(r"({.*?})", self.names)
        )
        match = re.fullmatch("".join(parts), name)
        return None if match is None else {axis: match[axis] for axis in self.axes}

    def reason(self, cell: Mapping[str, str]) -> str:
        """Why a cell is not in the run."""
        return next((e.reason for e in self.absent if e.cell.items() <= cell.items()), _MISSING)


@register_analysis("cells", CellsOptions)
def cells(line: Line, options: CellsOptions, progress: Progress) -> Findings:
    """The grid of a run, for its first target.

    Raises:
        BadInput: as :func:`cells_of`.
    """
    del progress
    summary = load_summary(line.workspace.path("summary.json"))
    return cells_of(summary, line.targets[0].name, options)


def cells_of(summary: Summary, target: str, options: CellsOptions) -> Findings:
    """The grid of a summary.

    Args:
        summary: of a run.
        target: whose variants are looked at.
        options: see there.

    Returns:
        Table ``cells`` with every cell, and with the run's other recipes below; ``pairs`` and ``best`` where
        they are asked for; as figures all of them by recipe.

    Raises:
        BadInput: the run has no cell of the grid.
    """
    found = {v.name.removesuffix(f"-{target}"): v for v in summary.others if v.target == target}
    grid = {options.name_of(cell): cell for cell in options.every_cell()}
    if not grid.keys() & found.keys():
        raise BadInput(
            f"analysis cells: the run has no recipe called like '{options.names}' with the labels of axes; "
            f"it has {', '.join(found) or 'none'}"
        )
    rows = [
        Known(name, cell, found.get(name), "" if name in found else options.reason(cell))
        for name, cell in grid.items()
    ]
    rows += [
        Known(name, options.labels_of(name) or {}, variant, "not a cell of the grid")
        for name, variant in found.items()
        if name not in grid
    ]
    tables = [cells_table(rows, tuple(options.axes), summary)]
    if options.pairs:
        pairs = [(pair.axis, pair.base, pair.change) for pair in options.pairs]
        tables.append(pairs_table(rows, pairs))
    if options.best_of is not None:
        tables.append(best_table(rows, options.best_of, summary))
    figures: dict[str, JsonValue] = {row.name: _figures(row, summary) for row in rows}
    return Findings(tuple(tables), figures={"cells": figures}, title="Cells of the grid")


def _figures(row: Known, summary: Summary) -> JsonValue:
    labels: dict[str, JsonValue] = dict(row.labels.items())
    if row.variant is None:
        return {"labels": labels, "absent": row.remark}
    return {"labels": labels, **dict(zip(KEYS, figures_of(row.variant, summary), strict=True))}
