"""Solvers of mixed precision side by side: what each chooses in the same budgets, and what that loses.

One pass over calibration images measures every layer by every metric, and all solvers choose from these
tables. What they chose is then measured as a whole, on validation images: sums of what single layers lose are
a prediction only. The recipe's fake-quant layers are used in PyTorch, with its graph methods and without what
tunes weights to one width (:func:`quant.mixed.resolve.measured_recipe`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from benchmarks.analyses.allocation_tables import Costs, Row, findings_of
from benchmarks.analyses.contest import Contender, compete
from benchmarks.analyses.findings import Findings
from benchmarks.analyses.judged import Judge, judge_of
from benchmarks.analyses.registry import register_analysis
from benchmarks.profile.measure import asked, measure_layers, untuned
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line
from quant.calibrated import CalibratedGraph
from quant.errors import BadInput
from quant.mixed.budgets import make_constraints
from quant.mixed.constraint import Constraint
from quant.mixed.formats import Formats
from quant.mixed.groups import Group, find_groups
from quant.mixed.sensitivity import Sensitivity
from quant.mixed.settings import Budget
from quant.progress import Progress

__all__ = ["AllocationOptions", "allocation"]

_PREDICTED = "kl"
"""Measured in any case: it is also what is measured of the whole network."""

_DEFAULT = (
    Contender(name="thresholds", metric="output_l2", solver="thresholds"),
    Contender(name="milp", metric="kl"),
    Contender(name="nuclear_norm", metric="nuclear_norm"),
)


class AllocationOptions(BaseModel):
    """Options.

    Attributes:
        recipe: a recipe of the run, whose formats get other widths; the first where none is named.
        bits: the widths to choose from.
        budgets: limits as in a recipe's ``mixed_precision``, each by itself.
        keep: patterns of layer names to a width that is not up for choice; the first match counts.
        contenders: who chooses; the others have what the first one spent of a budget.
        images: calibration images for the sensitivities; they are held in memory.
        judged: validation images for what a choice loses; they are held in memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str | None = None
    bits: tuple[int, ...] = (4, 6, 8)
    budgets: tuple[Budget, ...] = Field(min_length=1)
    keep: dict[str, int] = {}
    contenders: tuple[Contender, ...] = Field(default=_DEFAULT, min_length=1)
    images: int = Field(default=32, ge=1)
    judged: int = Field(default=128, ge=2)

    @field_validator("contenders")
    @classmethod
    def _named_once(cls, value: tuple[Contender, ...]) -> tuple[Contender, ...]:
        names = [contender.name for contender in value]
        if len(set(names)) != len(names):
            raise ValueError(f"contenders must have different names, got {', '.join(names)}")
        return value


@register_analysis("allocation", AllocationOptions)
def allocation(line: Line, options: AllocationOptions, progress: Progress) -> Findings:
    """Measure, choose, and measure what was chosen.

    Args:
        line: a run.
        options: see there.
        progress: told what is done.

    Returns:
        Tables ``choices``, ``bits`` and ``sensitivity``; drawings of the loss against energy and mean width.

    Raises:
        BadInput: a recipe or a metric does not exist, or a budget cannot be kept.
        Unsupported: the recipe's formats have only one width.
    """
    recipe = line.recipe_named(options.recipe)
    metrics = list(dict.fromkeys([*(c.metric for c in options.contenders), _PREDICTED]))
    settings = asked(metrics, options.bits, line.calibrated(recipe))
    size = line.batch_size(line.config.calibration_batch)
    learned = calibration_batches(line.calibration, line.loaded.preprocessing, size)
    calibrated = untuned(line.calibrated(recipe), line.graph, learned, progress)
    groups = find_groups(calibrated, settings.operands)
    kept = {group.name: bits for group in groups if (bits := _kept(group, options.keep)) is not None}
    decided = [group for group in groups if group.name not in kept]
    if not decided:
        raise BadInput("analysis allocation: 'keep' matches every layer, so there is nothing to decide")
    budgets = [make_constraints(b, groups, settings.bits, kept, calibrated) for b in options.budgets]
    some = calibration_batches(Spread(line.calibration, options.images), line.loaded.preprocessing, size)
    measured = measure_layers(calibrated, list(some(None)), metrics, settings, progress).tables
    tables = {metric: _rows_of(table, decided) for metric, table in measured.items()}
    formats = Formats(calibrated, groups, sorted({*settings.bits, *kept.values()}))

    def plan(choice: NDArray[np.intp]) -> dict[str, int]:
        return kept | {g.name: settings.bits[column] for g, column in zip(decided, choice, strict=True)}

    def judge_on(split: str, count: int) -> Judge:
        return judge_of(line, split, count, calibrated.graph, formats.all_float)

    swapping = any(contender.swaps for contender in options.contenders)
    tried = judge_on("calibration", options.images) if swapping else None

    def loss(choice: NDArray[np.intp]) -> float:
        assert tried is not None
        formats.set_all(plan(choice))
        return tried.judge().kl

    entries = compete(options.contenders, tables, budgets, loss)
    judge = judge_on("validation", options.judged)
    uniform = [(None, f"uniform {bits}", np.full(len(decided), i)) for i, bits in enumerate(settings.bits)]
    chosen = [*uniform, *((e.budget, e.contender, e.choice) for e in entries)]
    rows = []
    for index, (budget, name, choice) in enumerate(chosen):
        progress("measuring choices", index, len(chosen))
        formats.set_all(plan(choice))
        rows.append(Row(budget, name, choice, judge.judge()))
    progress("measuring choices", len(chosen), len(chosen))
    formats.all_float()
    costs = _costs(groups, settings.bits, kept, calibrated)
    return findings_of(rows, tables, costs, decided, options.budgets, options.contenders, judge.top1)


def _kept(group: Group, keep: Mapping[str, int]) -> int | None:
    return next(
        (bits for pattern, bits in keep.items() if any(fnmatchcase(n, pattern) for n in group.layers)), None
    )


def _rows_of(table: Sensitivity, groups: Sequence[Group]) -> Sensitivity:
    names = tuple(group.name for group in groups)
    return replace(
        table, groups=names, values=tuple(table.values[table.groups.index(name)] for name in names)
    )


def _costs(
    groups: Sequence[Group], bits: Sequence[int], kept: Mapping[str, int], calibrated: CalibratedGraph
) -> Costs:
    """What any choice costs, in each unit."""

    def constraint(kind: str) -> Constraint:
        budget = Budget.model_validate({"kind": kind, "value": 1.0})  # the limit has no effect
        (found,) = make_constraints(budget, groups, bits, kept, calibrated)
        return found

    return Costs(constraint("mean_bits"), constraint("size"), constraint("energy"))
