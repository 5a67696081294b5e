"""Local search around a solution by measuring the whole network.

Ω is measured one group at a time and added up. The joint effect is not quite the sum, so the best changes by
Ω are tried on the network itself: one group up a width and, where the budget needs it, another one down.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.mixed.constraint import Constraint, fits

__all__ = ["SwapStep", "swap_search"]

Choice = NDArray[np.intp]


@dataclass(frozen=True)
class SwapStep:
    """One change that was measured.

    Attributes:
        up: the group that got more bits.
        down: the group that got fewer, if any.
        predicted: the change of Σ Ω.
        loss: what was measured.
        accepted: whether the loss is smaller than before, so that the change was kept.
    """

    up: int
    down: int | None
    predicted: float
    loss: float
    accepted: bool


def swap_search(
    start: Choice,
    omega: NDArray[np.float64],
    constraints: Sequence[Constraint],
    measure: Callable[[Choice], float],
    measurements: int,
) -> tuple[Choice, tuple[SwapStep, ...]]:
    """Take every change that lowers the measured loss and keeps the limits.

    The most promising change by Ω is tried first; after one is accepted the search goes on from there. No
    choice is measured twice.

    Args:
        start: [groups], a choice that keeps the limits.
        omega: [groups, bits], widths ascending.
        constraints: the limits.
        measure: the loss of a choice.
        measurements: how many changes are tried at most; the start is measured in addition.

    Returns:
        The best choice found, never worse than ``start`` by ``measure``, and what was tried.
    """
    current, best = start, measure(start)
    seen = {tuple(start)}
    trail: list[SwapStep] = []
    while len(trail) < measurements:
        changes = (change for change in _changes(current, omega) if tuple(change[0]) not in seen)
        change = next((c for c in changes if fits(c[0], constraints)), None)
        if change is None:
            break
        choice, up, down, predicted = change
        seen.add(tuple(choice))
        loss = measure(choice)
        trail.append(SwapStep(up, down, predicted, loss, loss < best))
        if loss < best:
            current, best = choice, loss
    return current, tuple(trail)


def _changes(current: Choice, omega: NDArray[np.float64]) -> list[tuple[Choice, int, int | None, float]]:
    """All neighbours of a choice, the smallest predicted change of the loss first."""
    rows = np.arange(len(current))
    here = omega[rows, current]
    above, below = current + 1, current - 1
    gain = np.where(above < omega.shape[1], omega[rows, np.minimum(above, omega.shape[1] - 1)] - here, np.inf)
    price = np.where(below >= 0, omega[rows, np.maximum(below, 0)] - here, np.inf)
    found: list[tuple[Choice, int, int | None, float]] = []
    for up in rows[np.isfinite(gain)]:
        raised = current.copy()
        raised[up] += 1
        found.append((raised, int(up), None, float(gain[up])))
        for down in rows[np.isfinite(price)]:
            if down != up:
                swapped = raised.copy()
                swapped[down] -= 1
                found.append((swapped, int(up), int(down), float(gain[up] + price[down])))
    return sorted(found, key=lambda change: change[3])
