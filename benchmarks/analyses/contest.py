"""Ways to choose widths, in the same budgets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from quant.mixed.allocate import allocate
from quant.mixed.constraint import Constraint
from quant.mixed.sensitivity import Sensitivity
from quant.mixed.swap import swap_search
from quant.mixed.thresholds import solve_thresholds

__all__ = ["Contender", "Entry", "compete"]

Choice = NDArray[np.intp]
_SOLVERS = {"milp": allocate, "thresholds": solve_thresholds}


class Contender(BaseModel):
    """One way to choose.

    Attributes:
        name: in tables and drawings.
        metric: the sensitivity it goes by, a name of :mod:`quant.mixed.sensitivity`.
        solver: ``thresholds`` or ``milp``, as in a recipe's ``mixed_precision``.
        swaps: how many changes of its solution are tried on the calibration images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    metric: str
    solver: Literal["thresholds", "milp"] = "milp"
    swaps: int = Field(default=0, ge=0)


@dataclass(frozen=True, eq=False)
class Entry:
    """What a contender chose in a budget.

    Attributes:
        budget: index of the budget.
        contender: its name.
        choice: the column of each group, [groups].
        limits: what the choice had to keep: the budget, or less, see :func:`compete`.
    """

    budget: int
    contender: str
    choice: Choice
    limits: tuple[Constraint, ...]


def compete(
    contenders: Sequence[Contender],
    tables: Mapping[str, Sensitivity],
    budgets: Sequence[Sequence[Constraint]],
    measure: Callable[[Choice], float],
) -> list[Entry]:
    """Let every contender choose in every budget.

    The first one has the budget, and the others have what the first one spent of it: thresholds seldom hit a
    limit, and a comparison in which the others spend what the first one left over says nothing.

    Args:
        contenders: the first of them sets the limits.
        tables: sensitivities by metric.
        budgets: the limits of each.
        measure: the loss of the whole network at a choice, for those that try swaps.

    Raises:
        BadInput: a budget cannot be kept, at all or by thresholds.
    """
    found = []
    for index, budget in enumerate(budgets):
        limits = tuple(budget)
        for contender in contenders:
            omega = tables[contender.metric].omega
            choice = _SOLVERS[contender.solver](omega, limits)
            if contender.swaps:
                choice, _ = swap_search(choice, omega, limits, measure, contender.swaps)
            found.append(Entry(index, contender.name, choice, limits))
            if contender is contenders[0]:
                limits = tuple(replace(limit, limit=limit.total(choice)) for limit in limits)
    return found
