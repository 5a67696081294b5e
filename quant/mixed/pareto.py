"""The best loss for every budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quant.errors import BadInput
from quant.mixed.allocate import allocate
from quant.mixed.constraint import Constraint

__all__ = ["ParetoPoint", "pareto_front"]

Solver = Callable[[NDArray[np.float64], Sequence[Constraint]], NDArray[np.intp]]


@dataclass(frozen=True)
class ParetoPoint:
    """One choice that no other beats in both cost and loss.

    Attributes:
        cost: what it costs, in the constraint's unit.
        loss: Σ Ω.
        choice: the column of each group.
    """

    cost: float
    loss: float
    choice: tuple[int, ...]


def pareto_front(
    omega: NDArray[np.float64],
    swept: Constraint,
    others: Sequence[Constraint] = (),
    points: int = 21,
    solve: Solver = allocate,
) -> tuple[ParetoPoint, ...]:
    """Solve for limits spread evenly from the cheapest choice to the one with the least loss.

    Args:
        omega: [groups, bits].
        swept: its limit is replaced.
        others: limits that hold throughout.
        points: how many limits.
        solve: what chooses for one limit.

    Returns:
        In order of cost; choices that another beats or equals are left out.

    Raises:
        BadInput: ``others`` cannot be kept, or fewer than two points are asked for.
    """
    if points < 2:
        raise BadInput(f"a Pareto front needs at least 2 points, got {points}")
    cheapest = allocate(swept.cost, others)
    best = allocate(omega, others)
    found = []
    for limit in np.linspace(swept.total(cheapest), swept.total(best), points):
        choice = solve(omega, [replace(swept, limit=float(limit)), *others])
        loss = float(omega[np.arange(len(choice)), choice].sum())
        found.append(ParetoPoint(swept.total(choice), loss, tuple(int(column) for column in choice)))
    front: list[ParetoPoint] = []
    for point in sorted(found, key=lambda p: (p.cost, p.loss)):
        if not front or point.loss < front[-1].loss:
            front.append(point)
    return tuple(front)
