"""From a recipe with the section ``mixed_precision`` to an ordinary recipe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from quant.calibrate import Batches, calibrate
from quant.calibrated import CalibratedGraph
from quant.errors import BadInput
from quant.methods import GraphMethod, make_method
from quant.mixed.allocate import allocate
from quant.mixed.bench import Bench
from quant.mixed.budgets import make_constraints
from quant.mixed.constraint import Constraint
from quant.mixed.formats import Formats
from quant.mixed.groups import Group, find_groups
from quant.mixed.plan import Choice, Plan, concrete_recipe, plain_recipe
from quant.mixed.sensitivity import Sensitivity, check_metric, measure
from quant.mixed.sensitivity.kl import kl
from quant.mixed.settings import FLOAT, MixedPrecision
from quant.mixed.swap import SwapStep, swap_search
from quant.mixed.thresholds import solve_thresholds
from quant.progress import Progress, silent
from quant.recipe import Recipe

__all__ = ["Resolution", "decide", "measured_recipe", "resolve"]


@dataclass(frozen=True, eq=False)
class Resolution:
    """How a recipe's widths were chosen.

    Attributes:
        recipe: the ordinary recipe.
        plan: the width of every group, those in ``keep`` included.
        sensitivity: what was measured.
        constraints: the budgets.
        choice: the column of each row of the sensitivity.
        swaps: what the local search tried; indices are rows of the sensitivity.
    """

    recipe: Recipe
    plan: Plan
    sensitivity: Sensitivity
    constraints: tuple[Constraint, ...]
    choice: tuple[int, ...]
    swaps: tuple[SwapStep, ...]


def resolve(recipe: Recipe, graph: fx.GraphModule, batches: Batches, progress: Progress = silent) -> Recipe:
    """The ordinary recipe, see :func:`decide`; a recipe without mixed precision is returned as it is."""
    if recipe.mixed_precision is None:
        return recipe
    return decide(recipe, recipe.mixed_precision, graph, batches, progress).recipe


def decide(
    recipe: Recipe,
    settings: MixedPrecision,
    graph: fx.GraphModule,
    batches: Batches,
    progress: Progress = silent,
) -> Resolution:
    """Calibrate once, measure how sensitive every group is, and choose widths in the budget.

    Methods that tune weights to the recipe's own widths (GPTQ, reconstruction) are left out of that
    calibration: they come behind the decision.

    Args:
        recipe: the formats, of which only the widths are changed.
        settings: what to choose from, and in which budget.
        graph: a captured float graph; it is not changed.
        batches: the calibration images.
        progress: told what is done.

    Raises:
        BadInput: the metric is unknown, no layer is left to decide, or a budget cannot be met.
    """
    check_metric(settings.metric)
    calibrated = calibrate(graph, measured_recipe(recipe), batches, progress)
    groups = find_groups(calibrated, settings.operands)
    kept = {group.name: bits for group in groups if (bits := _kept(group, settings)) is not None}
    decided = [group for group in groups if group.name not in kept]
    if not decided:
        raise BadInput("mixed precision: 'keep' matches every layer, so there is nothing to decide")
    constraints = [
        constraint
        for budget in settings.budget
        for constraint in make_constraints(budget, groups, settings.bits, kept, calibrated)
    ]
    solve = allocate if settings.solver == "milp" else solve_thresholds
    solve(np.zeros((len(decided), len(settings.bits))), constraints)  # find a wrong budget before measuring
    widths = {*settings.bits, *kept.values(), settings.background}
    formats = Formats(calibrated, groups, sorted(widths))
    bench = Bench(
        graph=calibrated.graph,
        groups=decided,
        bits=settings.bits,
        formats=formats,
        images=list(batches(settings.images)),
        background=_background(settings, groups, kept),
        probes=settings.probes,
        seed=settings.seed,
        progress=progress,
    )
    sensitivity = measure(bench, [settings.metric])[settings.metric]
    choice = solve(sensitivity.omega, constraints)
    trail: tuple[SwapStep, ...] = ()

    def plan_of(choice: NDArray[np.intp]) -> dict[str, int]:
        return kept | {g.name: settings.bits[column] for g, column in zip(decided, choice, strict=True)}

    if settings.swaps:
        loss = _joint_loss(calibrated, formats, bench.images, progress, settings.swaps)
        choice, trail = swap_search(
            choice, sensitivity.omega, constraints, lambda c: loss(plan_of(c)), settings.swaps
        )
    widths_of = plan_of(choice)
    plan = Plan(tuple(Choice.of(group, widths_of[group.name]) for group in groups))
    return Resolution(
        recipe=concrete_recipe(recipe, plan),
        plan=plan,
        sensitivity=sensitivity,
        constraints=tuple(constraints),
        choice=tuple(int(column) for column in choice),
        swaps=trail,
    )


def measured_recipe(recipe: Recipe) -> Recipe:
    """The recipe that sensitivity is measured on: no method but those of the graph, no mixed precision.

    What tunes weights (GPTQ, reconstruction) fits them to one width.
    """
    methods = tuple(s for s in recipe.methods if isinstance(make_method(s.name, s.options), GraphMethod))
    return plain_recipe(recipe, methods=methods)


def _kept(group: Group, settings: MixedPrecision) -> int | None:
    widths = [b for pattern, b in settings.keep.items() if any(fnmatchcase(n, pattern) for n in group.layers)]
    return widths[0] if widths else None


def _background(
    settings: MixedPrecision, groups: Sequence[Group], kept: dict[str, int]
) -> dict[str, int] | None:
    if settings.background == FLOAT:
        return None
    return {group.name: kept.get(group.name, settings.background) for group in groups}


def _joint_loss(
    calibrated: CalibratedGraph, formats: Formats, images: Sequence[Tensor], progress: Progress, total: int
) -> Callable[[dict[str, int]], float]:
    """Mean KL divergence of the whole network at given widths from itself in float."""
    formats.all_float()
    with torch.no_grad():
        reference = [calibrated.graph(batch) for batch in images]
    done = 0

    @torch.no_grad()
    def loss(plan: dict[str, int]) -> float:
        nonlocal done
        formats.set_all(plan)
        scores = [
            kl(expected.double(), calibrated.graph(batch).double())
            for expected, batch in zip(reference, images, strict=True)
        ]
        formats.all_float()
        progress("trying swaps", done, total)
        done += 1
        return float(torch.cat(scores).mean())

    return loss
