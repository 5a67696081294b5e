"""The best widths in a budget, as an integer program.

    min Σ_{l,b} Ω[l,b] x[l,b],   x[l,b] ∈ {0, 1},   so that
    Σ_b x[l,b] = 1 for all l,   Σ_{l,b} cost_k[l,b] x[l,b] ≤ limit_k for all k

Layers that have to agree are one group, one l, so that ties need no constraint of their own.

Source: Yao et al. 2021, "HAWQ-V3", section 3.4. SciPy's HiGHS solves 50 groups in a fraction of a second.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

from quant.errors import BadInput, InternalError
from quant.mixed.constraint import Constraint

__all__ = ["allocate", "require_feasible"]

_INFEASIBLE = 2
_SCALE = 1e6
"""The largest coefficient of the objective: HiGHS stops at an absolute gap of 1e-6."""


def allocate(omega: NDArray[np.float64], constraints: Sequence[Constraint]) -> NDArray[np.intp]:
    """The column of each row with the least Σ Ω that keeps every limit.

    Args:
        omega: [groups, bits], finite.
        constraints: costs of the same shape.

    Returns:
        [groups], column indices.

    Raises:
        BadInput: the limits cannot be kept; the message gives the smallest that can.
    """
    require_feasible(constraints)
    omega = omega - omega.min(
        axis=1, keepdims=True
    )  # the same choice, of numbers that are not large and alike
    peak = omega.max()
    scaled = omega * (_SCALE / peak) if peak > 0 else omega
    result = _solve(scaled.ravel(), constraints, *omega.shape)
    if result.x is None:
        raise InternalError(f"the integer program was not solved: {result.message}")
    choice: NDArray[np.intp] = result.x.reshape(omega.shape).argmax(axis=1)
    return choice


def require_feasible(constraints: Sequence[Constraint]) -> None:
    """Find limits that cannot be kept.

    Raises:
        BadInput: naming the smallest budget: of each limit alone, or where only together they are too tight,
            the smallest common factor that makes them feasible.
    """
    for constraint in constraints:
        if not constraint.holds(constraint.least):
            raise BadInput(
                f"mixed precision: {constraint.name} {constraint.limit:g}{constraint.unit} cannot be met; "
                f"the smallest possible is {_up(constraint.least)}{constraint.unit}, with every layer at the "
                "width that costs least"
            )
    if len(constraints) < 2:
        return
    groups, widths = constraints[0].cost.shape
    if _solve(np.zeros(groups * widths), constraints, groups, widths).status != _INFEASIBLE:
        return
    factor = _common_factor(constraints, groups, widths)
    limits = ", ".join(f"{c.name} {_up(c.limit * factor)}{c.unit}" for c in constraints)
    raise BadInput(
        f"mixed precision: the budgets cannot all be met at once; all of them {_up(factor)} times as large "
        f"can ({limits})"
    )


def _solve(
    objective: NDArray[np.float64], constraints: Sequence[Constraint], groups: int, widths: int
) -> OptimizeResult:
    one_each = sparse.kron(sparse.eye(groups), np.ones((1, widths)), format="csr")
    rows = [LinearConstraint(one_each, 1, 1)]
    for constraint in constraints:
        room = constraint.limit - constraint.fixed
        scale = constraint.cost.max() or 1.0
        rows.append(LinearConstraint(constraint.cost.reshape(1, -1) / scale, -np.inf, room / scale))
    return milp(
        objective,
        constraints=rows,
        integrality=np.ones(groups * widths),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )


def _common_factor(constraints: Sequence[Constraint], groups: int, widths: int) -> float:
    """The least t for which some choice keeps every limit times t: one more variable, continuous."""
    cells = groups * widths
    one_each = sparse.hstack([sparse.kron(sparse.eye(groups), np.ones((1, widths))), np.zeros((groups, 1))])
    rows = [LinearConstraint(one_each, 1, 1)]
    for constraint in constraints:  # cost·x + fixed − limit·t ≤ 0
        row = np.append(constraint.cost.ravel(), -constraint.limit)
        rows.append(LinearConstraint(row / constraint.limit, -np.inf, -constraint.fixed / constraint.limit))
    result = milp(
        np.append(np.zeros(cells), 1.0),
        constraints=rows,
        integrality=np.append(np.ones(cells), 0),
        bounds=Bounds(0, np.append(np.ones(cells), np.inf)),
        options={"mip_rel_gap": 0.0},
    )
    return float(result.x[-1])


def _up(value: float) -> str:
    """Four digits, never below the value."""
    text = f"{value:.4g}"
    return text if float(text) >= value else f"{value * 1.0005:.4g}"
