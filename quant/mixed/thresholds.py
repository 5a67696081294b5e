"""The plain rule: sensitive layers get many bits, insensitive ones few.

    b_l = 8 if s_l ≥ t_high,  6 if s_l ≥ t_low,  else 4

for the widths {4, 6, 8}; each further width needs one more threshold. s_l is the layer's sensitivity at the
smallest width. The rule does not look at what a layer costs; the integer program of
:mod:`quant.mixed.allocate` does, and for the same budget it is never worse in Σ Ω.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from quant.errors import BadInput
from quant.mixed.allocate import require_feasible
from quant.mixed.constraint import Constraint, fits

__all__ = ["apply_thresholds", "solve_thresholds"]


def apply_thresholds(scores: NDArray[np.float64], thresholds: Sequence[float]) -> NDArray[np.intp]:
    """The column of each row: how many of the thresholds its score reaches.

    Args:
        scores: [groups].
        thresholds: ascending, one less than there are widths.

    Raises:
        BadInput: the thresholds are not ascending.
    """
    if list(thresholds) != sorted(thresholds):
        raise BadInput(f"thresholds must ascend, got {list(thresholds)}")
    return np.searchsorted(np.asarray(thresholds, dtype=np.float64), scores, side="right")


def solve_thresholds(omega: NDArray[np.float64], constraints: Sequence[Constraint]) -> NDArray[np.intp]:
    """The thresholds with the least Σ Ω that keep every limit, applied.

    All ways to cut the layers, in the order of their scores, into one run for each width are tried: with L
    layers and 3 widths (L + 1)(L + 2) / 2.

    Args:
        omega: [groups, bits], finite.
        constraints: costs of the same shape.

    Returns:
        [groups], column indices.

    Raises:
        BadInput: the limits cannot be kept, at all or by this rule.
    """
    require_feasible(constraints)
    groups, widths = omega.shape
    order = np.argsort(omega[:, 0], kind="stable")
    best, least = None, np.inf
    for cuts in combinations_with_replacement(range(groups + 1), widths - 1):
        choice = np.empty(groups, dtype=np.intp)
        choice[order] = np.searchsorted(np.asarray(cuts), np.arange(groups), side="right")
        loss = float(omega[np.arange(groups), choice].sum())
        if loss < least and fits(choice, constraints):
            best, least = choice, loss
    if best is None:
        raise BadInput(
            "mixed precision: no thresholds meet the budgets, although other choices do; use solver: milp"
        )
    return best
