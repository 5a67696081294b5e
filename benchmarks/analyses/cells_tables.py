"""The tables of the analysis ``cells``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.analyses.findings import Cell, Table
from benchmarks.results import Summary, Variant

__all__ = ["KEYS", "Known", "best_table", "cells_table", "figures_of", "pairs_table"]

KEYS = (
    *("top1", "drop", "changed", "agreement", "sqnr_db"),
    *("file_mib", "energy_mj", "energy_less", "arithmetic_less"),
)
"""What machines call the figures of :func:`figures_of`."""
_FIGURES = (
    *("top-1, %", "drop, points", "became right / wrong", "same answer, %", "logit SQNR, dB"),
    *("file, MiB", "energy, mJ", "less than FP32, %", "arithmetic less, %"),
)
_PAIR_FIGURES = ("top-1, points", "logit SQNR, dB", "file, %", "energy, %")
_EMPTY: tuple[Cell, ...] = (None,) * len(_FIGURES)


@dataclass(frozen=True)
class Known:
    """One row of the grid.

    Attributes:
        name: of the recipe.
        labels: by axis; empty for a recipe that is not named like a cell.
        variant: None where the run has not got it.
        remark: for the reader.
    """

    name: str
    labels: Mapping[str, str]
    variant: Variant | None
    remark: str


def cells_table(rows: Sequence[Known], axes: Sequence[str], summary: Summary) -> Table:
    """All rows, the float model first.

    Args:
        rows: in order.
        axes: of the grid, in order.
        summary: of the run.
    """
    base = Known(summary.reference, {}, summary.base, "")
    lines = [
        (
            row.name,
            *(row.labels.get(axis) for axis in axes),
            *(_EMPTY if row.variant is None else figures_of(row.variant, summary)),
            row.remark,
        )
        for row in (base, *rows)
    ]
    energy = summary.base.energy
    model = (
        "" if energy is None else f" Energy is modelled: {energy.model}; arithmetic alone stands beside it."
    )
    columns = ("recipe", *axes, *_FIGURES, "remark")
    return Table("cells", "Every cell of the grid", columns, tuple(lines), f"On {summary.data}.{model}")


def pairs_table(rows: Sequence[Known], pairs: Sequence[tuple[str, str, str]]) -> Table:
    """What changes with one label, everything else equal: a row wherever both cells are.

    Args:
        rows: the cells.
        pairs: axis, label compared with, label compared.
    """
    known = {tuple(row.labels.items()): row.variant for row in rows if row.labels}
    lines: list[tuple[Cell, ...]] = []
    for axis, old, new in pairs:
        for labels, base in known.items():
            change = known.get(tuple({**dict(labels), axis: new}.items()))
            if dict(labels)[axis] != old or base is None or change is None:
                continue
            rest = ", ".join(label for other, label in labels if other != axis)
            lines.append((f"{old} → {new}", rest, *_changes(base, change)))
    note = "The second label less the first: better above 0 in the first two figures, below 0 in the others."
    return Table("pairs", "One label against another", ("change", "cell", *_PAIR_FIGURES), tuple(lines), note)


def best_table(rows: Sequence[Known], axis: str, summary: Summary) -> Table:
    """The most accurate recipe of every label of an axis; of equal ones the one with the least noise.

    Args:
        rows: the cells.
        axis: whose labels are looked at.
        summary: of the run.
    """
    lines: list[tuple[Cell, ...]] = []
    for label in dict.fromkeys(row.labels[axis] for row in rows if row.labels):
        own = [(row.name, row.variant) for row in rows if row.labels.get(axis) == label]
        judged = [(_goodness(v), name, v) for name, v in own if v is not None and v.accuracy is not None]
        if not judged:
            lines.append((label, None, *_EMPTY))
            continue
        _, name, best = max(judged, key=lambda entry: entry[0])
        lines.append((label, name, *figures_of(best, summary)))
    note = (
        f"Chosen on the very images that the table tells of ({summary.data}): on others the best of several "
        "loses a little more."
    )
    title = f"The most accurate recipe by {axis}"
    return Table("best", title, (axis, "recipe", *_FIGURES), tuple(lines), note)


def figures_of(variant: Variant, summary: Summary) -> tuple[str | int | float | None, ...]:
    """The figures of a variant, in the order of :data:`KEYS`.

    Shares are in %, drops in points of top-1 below the float model, energies in mJ per image.
    """
    seen, energy, base = variant.accuracy, variant.energy, summary.base.energy
    gain, flips = _gain(variant, summary.base), None if seen is None else seen.flips
    less = arithmetic = None
    if energy is not None and base is not None:
        less = 100 * (1 - energy.modelled_mj / base.modelled_mj)
        arithmetic = 100 * (1 - energy.arithmetic_mj / base.arithmetic_mj)
    return (
        None if seen is None else 100 * seen.top1,
        None if gain is None else 0.0 - gain,  # not -0.0 where nothing is lost
        None if flips is None else f"+{flips.better} / −{flips.worse}",
        None if seen is None or seen.agreement is None else 100 * seen.agreement,
        None if seen is None else seen.sqnr_db,
        variant.size_bytes / 2**20,
        None if energy is None else energy.modelled_mj,
        less,
        arithmetic,
    )


def _changes(base: Variant, change: Variant) -> tuple[Cell, ...]:
    """As :data:`_PAIR_FIGURES`."""
    decibels = energy = None
    if base.accuracy is not None and change.accuracy is not None:
        old, new = base.accuracy.sqnr_db, change.accuracy.sqnr_db
        decibels = None if old is None or new is None else new - old
    if base.energy is not None and change.energy is not None:
        energy = 100 * (change.energy.modelled_mj / base.energy.modelled_mj - 1)
    return _gain(change, base), decibels, 100 * (change.size_bytes / base.size_bytes - 1), energy


def _gain(variant: Variant, base: Variant) -> float | None:
    """Points of top-1 above another variant."""
    if variant.accuracy is None or base.accuracy is None:
        return None
    return 100 * (variant.accuracy.top1 - base.accuracy.top1)


def _goodness(variant: Variant) -> tuple[float, float]:
    assert variant.accuracy is not None
    sqnr = variant.accuracy.sqnr_db
    return variant.accuracy.top1, float("-inf") if sqnr is None else sqnr
