"""A limit on the sum of what the chosen widths cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Constraint", "fits"]

_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Constraint:
    """Σ_l cost[l, b_l] + fixed ≤ limit.

    Attributes:
        name: for messages, such as ``mean_bits``.
        unit: of costs and limit, such as ``MB``.
        cost: [groups, bits], ≥ 0.
        limit: what the sum may reach.
        fixed: what is spent whatever is chosen.
    """

    name: str
    unit: str
    cost: NDArray[np.float64]
    limit: float
    fixed: float = 0.0

    def total(self, choice: NDArray[np.intp]) -> float:
        """What a choice (a column for each row) costs."""
        return float(self.cost[np.arange(len(choice)), choice].sum()) + self.fixed

    @property
    def least(self) -> float:
        """What the cheapest choice costs."""
        return float(self.cost.min(axis=1).sum()) + self.fixed

    def holds(self, total: float) -> bool:
        """Whether a total keeps the limit, up to rounding in the sum."""
        return total <= self.limit + _TOLERANCE * max(abs(self.limit), abs(total))


def fits(choice: NDArray[np.intp], constraints: Sequence[Constraint]) -> bool:
    """Whether a choice keeps all limits."""
    return all(constraint.holds(constraint.total(choice)) for constraint in constraints)
