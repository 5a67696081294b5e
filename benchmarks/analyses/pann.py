"""Weights for a budget of bit flips (PANN), against multipliers of the same budget.

For each budget P, that of an unsigned multiply-accumulate of b bits, and each width b_x of the inputs, every
layer gets the step that leaves R = P / b_x − 0.5 additions per weight, as the method ``pann`` sets it
(:mod:`quant.methods.pann`). The width with the least loss on calibration images is kept and measured on
validation images, beside a network of b bits whose unsigned multipliers flip as many bits. Everything is
fake-quant layers in PyTorch: codes beyond 8 bits have no file.

That unsigned sums of W⁺ and W⁻ give the signed ones is checked on the layers themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from benchmarks.analyses.added import AddedGraph
from benchmarks.analyses.drawings import Point, draw_trade
from benchmarks.analyses.findings import Cell, Findings, Table
from benchmarks.analyses.judged import Judge, Judged, judge_of
from benchmarks.analyses.registry import register_analysis
from benchmarks.analyses.unsigned_check import check_unsigned
from benchmarks.profile.drawing import Drawing
from benchmarks.profile.measure import untuned
from deploy.pipeline.images import calibration_batches
from deploy.pipeline.line import Line
from quant.calibrated import CalibratedGraph
from quant.census import take_census
from quant.energy.additions import AddedLayer, with_additions
from quant.energy.bits import bits_of
from quant.energy.model import ModelEnergy, energy_of
from quant.energy.pann import Candidate, budget_of_bits, candidates
from quant.progress import Progress

__all__ = ["PannOptions", "pann"]

_MILLI = 1e3
_COLUMNS = (
    *("choice", "bit flips, P", "bits of inputs", "additions, R", "largest code", "arithmetic, mJ"),
    *("energy, mJ", "KL, calibration", "KL", "top-1, %", "same answer, %", "logit SQNR, dB"),
)


class PannOptions(BaseModel):
    """Options.

    Attributes:
        recipe: a recipe of the run with 8-bit weights; the first where none is named.
        budgets: widths b of the unsigned multiply-accumulates whose bit flips are the budgets.
        activation_bits: widths of the inputs to choose from.
        images: calibration images that the choice is made on.
        judged: validation images that what was chosen is measured on.
        checked: inputs of each layer, as rows, on which unsigned sums are compared with signed ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str | None = None
    budgets: tuple[int, ...] = Field(default=(2, 3, 4, 6, 8), min_length=1)
    activation_bits: tuple[int, ...] = Field(default=(3, 4, 5, 6, 7, 8), min_length=1)
    images: int = Field(default=16, ge=1)
    judged: int = Field(default=128, ge=2)
    checked: int = Field(default=16, ge=1)


@dataclass(frozen=True, eq=False)
class _Spent:
    """One way to spend a budget.

    Attributes:
        budget: P, bit flips of a product.
        bits: of the multiplier that flips as many.
        way: of the additions; None where layers multiply.
        layers: what each layer became.
        tried: KL divergence on calibration images; None where there was no choice.
        judged: what was measured; None of what was not chosen.
    """

    budget: float
    bits: int
    way: Candidate | None
    layers: Mapping[str, AddedLayer]
    tried: float | None = None
    judged: Judged | None = None


@register_analysis("pann", PannOptions)
def pann(line: Line, options: PannOptions, progress: Progress) -> Findings:
    """Choose and measure.

    Args:
        line: a run.
        options: see there.
        progress: told what is done.

    Returns:
        Tables ``budgets`` and ``unsigned``; a drawing of the loss against bit flips.

    Raises:
        BadInput: the recipe does not exist, or a budget leaves no addition.
        Unsupported: no layer has the formats that the method needs.
    """
    recipe = line.recipe_named(options.recipe)
    size = line.batch_size(line.config.calibration_batch)
    learned = calibration_batches(line.calibration, line.loaded.preprocessing, size)
    calibrated = untuned(line.calibrated(recipe), line.graph, learned, progress)
    graph = AddedGraph(calibrated, [*options.budgets, *options.activation_bits])
    off = graph.formats.all_float
    chooser = judge_of(line, "calibration", options.images, calibrated.graph, off)
    judge = judge_of(line, "validation", options.judged, calibrated.graph, off)
    rows: list[_Spent] = []
    for index, bits in enumerate(options.budgets):
        progress("spending budgets", index, len(options.budgets))
        rows += _spend(graph, bits, options.activation_bits, chooser, judge)
    progress("spending budgets", len(options.budgets), len(options.budgets))
    checked = check_unsigned(graph, chooser.images[0], options.checked)
    off()
    return Findings(
        tables=(_table(rows, _energies(line, calibrated, rows)), checked),
        drawings=(_drawing(rows),),
        figures=_figures(rows, judge.top1),
        title="Weights without multipliers (PANN)",
    )


def _spend(graph: AddedGraph, bits: int, widths: Sequence[int], chooser: Judge, judge: Judge) -> list[_Spent]:
    """All ways to spend the budget of one multiplier, the chosen one measured, and the multiplier itself."""
    budget = budget_of_bits(bits)
    ways = [_Spent(budget, bits, c, graph.add(c), chooser.judge().kl) for c in candidates(budget, widths)]
    best = min(ways, key=lambda way: way.tried or 0.0)
    assert best.way is not None
    graph.add(best.way)
    chosen = replace(best, judged=judge.judge())
    multiplied = _Spent(budget, bits, None, graph.multiply(bits), judged=judge.judge())
    return [*(chosen if way is best else way for way in ways), multiplied]


def _energies(line: Line, calibrated: CalibratedGraph, rows: Sequence[_Spent]) -> list[ModelEnergy]:
    census = take_census(line.graph)
    usual = bits_of(calibrated.recipe, census)
    found = []
    for row in rows:
        bits = usual | {
            name: replace(usual[name], activation=own.activation_bits) for name, own in row.layers.items()
        }
        found.append(with_additions(energy_of(census, bits), census, row.layers))
    return found


def _table(rows: Sequence[_Spent], energies: Sequence[ModelEnergy]) -> Table:
    cells: list[tuple[Cell, ...]] = []
    for row, energy in zip(rows, energies, strict=True):
        own, seen = row.layers.values(), row.judged
        cells.append(
            (
                _name(row),
                row.budget,
                _width(row),
                None if row.way is None else row.way.additions,
                None if row.way is None else max(layer.largest_code for layer in own),
                _MILLI * energy.macs,
                _MILLI * energy.total,
                row.tried,
                None if seen is None else seen.kl,
                None if seen is None else 100 * seen.top1,
                None if seen is None else 100 * seen.agreement,
                None if seen is None else seen.sqnr_db,
            )
        )
    note = (
        "Of each budget the width of the inputs with the least KL divergence from float on calibration "
        "images is measured on validation images. Energy is modelled, in unsigned arithmetic; codes up to "
        "127 fit a file."
    )
    return Table(
        "budgets", "The same bit flips spent on additions or on multipliers", _COLUMNS, tuple(cells), note
    )


def _drawing(rows: Sequence[_Spent]) -> Drawing:
    points = [
        Point(
            f"{_width(row)} bits",
            row.budget,
            row.judged.kl,
            "multipliers" if row.way is None else "additions",
        )
        for row in rows
        if row.judged is not None
    ]
    words = "KL divergence from float, nats"
    return draw_trade(points, "loss_flips", "Loss for bit flips", "bit flips of a product", words, True, True)


def _figures(rows: Sequence[_Spent], float_top1: float) -> dict[str, JsonValue]:
    budgets: list[JsonValue] = [
        {
            "name": _name(row),
            "bit_flips": row.budget,
            "bits": row.bits,
            "multiplies": row.way is None,
            "activation_bits": None if row.way is None else row.way.activation_bits,
            "additions": None if row.way is None else row.way.additions,
            "kl": row.judged.kl,
            "top1": row.judged.top1,
            "agreement": row.judged.agreement,
        }
        for row in rows
        if row.judged is not None
    ]
    return {"float_top1": float_top1, "budgets": budgets}


def _width(row: _Spent) -> int:
    return next(iter(row.layers.values())).activation_bits


def _name(row: _Spent) -> str:
    return f"{row.bits}-bit multipliers" if row.way is None else f"additions for {row.bits}-bit multipliers"
