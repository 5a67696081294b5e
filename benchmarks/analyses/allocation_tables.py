"""The tables, drawings and figures of the analysis ``allocation``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from benchmarks.analyses.contest import Contender
from benchmarks.analyses.drawings import Point, draw_trade
from benchmarks.analyses.findings import Cell, Findings, Table
from benchmarks.analyses.judged import Judged, mean_difference
from benchmarks.profile.drawing import Drawing
from benchmarks.profile.sensitivity import draw_sensitivity
from benchmarks.statistics import Interval
from quant.mixed.constraint import Constraint
from quant.mixed.groups import Group
from quant.mixed.sensitivity import Sensitivity
from quant.mixed.settings import Budget

__all__ = ["Costs", "Row", "findings_of", "in_words"]

_CHOICES = (
    *("choice", "budget", "mean bits", "weights, MB", "energy, mJ", "KL predicted", "KL measured"),
    *("against the first, low", "high", "top-1, %", "same answer, %", "logit SQNR, dB"),
)


@dataclass(frozen=True)
class Costs:
    """What a choice costs; the limits are of no meaning.

    Attributes:
        bits: mean width, each layer by its number of weights.
        size: megabytes of all weights.
        energy: millijoules of one image.
    """

    bits: Constraint
    size: Constraint
    energy: Constraint


@dataclass(frozen=True, eq=False)
class Row:
    """A choice and what it loses.

    Attributes:
        budget: index of the budget it was made in; None of uniform widths.
        name: who chose.
        choice: the column of each group, [groups].
        judged: what was measured.
    """

    budget: int | None
    name: str
    choice: NDArray[np.intp]
    judged: Judged


def in_words(budget: Budget) -> str:
    """A budget, such as ``energy 0.8 of 8 bits``."""
    kind = budget.kind.replace("_", " ")
    return f"{kind} {budget.value:g}" + (f" of {budget.relative_to} bits" if budget.relative_to else "")


def findings_of(
    rows: Sequence[Row],
    tables: Mapping[str, Sensitivity],
    costs: Costs,
    groups: Sequence[Group],
    budgets: Sequence[Budget],
    contenders: Sequence[Contender],
    float_top1: float,
) -> Findings:
    """Everything that is shown.

    Args:
        rows: what was chosen, uniform widths first, then every contender in every budget.
        tables: sensitivities by metric, ``kl`` among them.
        costs: of choices.
        groups: the layers.
        budgets: those that the rows speak of.
        contenders: who chose; the first one is what the others are compared with.
        float_top1: share of the judged images that the float network has right.
    """
    first = {row.budget: row for row in rows if row.name == contenders[0].name}
    apart = {
        id(row): mean_difference(row.judged, first[row.budget].judged)
        for row in rows
        if row.budget is not None and row is not first[row.budget]
    }
    images, counted = len(rows[0].judged.divergence), next(iter(tables.values())).images
    who = "; ".join(f"{c.name}: {c.solver} by {c.metric}{_tried(c)}" for c in contenders)
    remarks = (
        f"{who}. The others have what {contenders[0].name} spent of a budget.",
        f"Sensitivities on {counted} calibration images, losses on {images} validation images, of which the "
        f"float model has {100 * float_top1:.1f} % right; fake-quant layers in PyTorch, no tuned weights.",
    )
    return Findings(
        tables=(
            _choices(rows, tables, costs, budgets, apart),
            _bits(rows, tables, groups, budgets),
            _sensitivity(tables, groups),
        ),
        drawings=(*_drawings(rows, costs), _layers(tables, contenders[0].metric)),
        figures={
            "float_top1": float_top1,
            "images": images,
            "first": contenders[0].name,
            "choices": [_figures(row, tables, costs, budgets, apart.get(id(row))) for row in rows],
        },
        remarks=remarks,
        title="Choice of widths",
    )


def _choices(
    rows: Sequence[Row],
    tables: Mapping[str, Sensitivity],
    costs: Costs,
    budgets: Sequence[Budget],
    apart: Mapping[int, Interval],
) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for row in rows:
        difference, seen = apart.get(id(row)), row.judged
        cells.append(
            (
                row.name,
                None if row.budget is None else in_words(budgets[row.budget]),
                *(cost.total(row.choice) for cost in (costs.bits, costs.size, costs.energy)),
                _predicted(row, tables["kl"]),
                seen.kl,
                None if difference is None else difference.low,
                None if difference is None else difference.high,
                100 * seen.top1,
                100 * seen.agreement,
                seen.sqnr_db,
            )
        )
    note = (
        "Predicted: the sum of what each layer alone loses. Measured: the whole network, KL divergence from "
        "float in nats. Against the first: 95 % interval of the mean difference on the same images; below 0 "
        "is better."
    )
    return Table("choices", "What was chosen and what it loses", _CHOICES, tuple(cells), note)


def _bits(
    rows: Sequence[Row], tables: Mapping[str, Sensitivity], groups: Sequence[Group], budgets: Sequence[Budget]
) -> Table:
    widths = tables["kl"].bits
    mixed = [row for row in rows if row.budget is not None]
    columns = ("layer", "weights", *(f"{row.name}, {in_words(budgets[row.budget or 0])}" for row in mixed))
    cells: list[tuple[Cell, ...]] = [
        (group.name, group.parameters, *(widths[row.choice[index]] for row in mixed))
        for index, group in enumerate(groups)
    ]
    return Table("bits", "Bits of each layer", columns, tuple(cells))


def _sensitivity(tables: Mapping[str, Sensitivity], groups: Sequence[Group]) -> Table:
    columns = (
        "layer",
        *(f"{metric}, {bits} bits" for metric, table in tables.items() for bits in table.bits),
    )
    cells: list[tuple[Cell, ...]] = [
        (group.name, *(value for table in tables.values() for value in table.values[index]))
        for index, group in enumerate(groups)
    ]
    note = (
        "Each layer quantized alone, the mean over the images. output_l2: S = ||y - y'||, the distance of "
        "the logits; output_l2_squared: its square; kl: nats; nuclear_norm: of the layer's own output (Liu "
        "et al. 2021)."
    )
    return Table("sensitivity", "How sensitive each layer is", columns, tuple(cells), note)


def _drawings(rows: Sequence[Row], costs: Costs) -> list[Drawing]:
    drawn = []
    for name, cost, unit in (
        ("loss_energy", costs.energy, "energy of one image, mJ, modelled"),
        ("loss_bits", costs.bits, "mean bits, each layer by its number of weights"),
    ):
        points = [
            Point(
                name=row.name if row.budget is None else "",
                cost=cost.total(row.choice),
                worth=row.judged.kl,
                family="uniform" if row.budget is None else row.name,
            )
            for row in rows
            if row.judged.kl > 0
        ]
        if len(points) > 1:
            words = "KL divergence from float, nats"
            drawn.append(draw_trade(points, name, "Measured loss of each choice", unit, words, True, True))
    return drawn


def _layers(tables: Mapping[str, Sensitivity], metric: str) -> Drawing:
    table = tables[metric]
    rows = zip(table.groups, table.values, strict=True)
    return draw_sensitivity({name: dict(zip(table.bits, row, strict=True)) for name, row in rows}, metric)


def _figures(
    row: Row,
    tables: Mapping[str, Sensitivity],
    costs: Costs,
    budgets: Sequence[Budget],
    difference: Interval | None,
) -> JsonValue:
    bits = tables["kl"].bits
    return {
        "name": row.name,
        "budget": None if row.budget is None else in_words(budgets[row.budget]),
        "kind": None if row.budget is None else budgets[row.budget].kind,
        "mean_bits": costs.bits.total(row.choice),
        "size_mb": costs.size.total(row.choice),
        "energy_mj": costs.energy.total(row.choice),
        "predicted_kl": _predicted(row, tables["kl"]),
        "kl": row.judged.kl,
        "difference": None if difference is None else [difference.low, difference.high],
        "top1": row.judged.top1,
        "agreement": row.judged.agreement,
        "sqnr_db": row.judged.sqnr_db,
        "bits": [bits[column] for column in row.choice],
    }


def _predicted(row: Row, table: Sensitivity) -> float:
    return float(table.omega[np.arange(len(row.choice)), row.choice].sum())


def _tried(contender: Contender) -> str:
    return f", {contender.swaps} swaps tried" if contender.swaps else ""
