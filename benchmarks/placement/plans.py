"""Choose which units stay float, from what each takes and what it loses.

A unit that is not faster quantized stays float. Whatever else is left in float costs time and spares
accuracy, which is a trade: of all choices that keep a share of the time that can be saved, the one with the
least loss,

    min Σ_u Ω_u x_u   so that   Σ_u saved_u x_u ≥ share · Σ_u saved_u,   x_u ∈ {0, 1}

with Ω the unit's loss and saved = float's time − quantized time, over the units that are faster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.placement.timing import UnitTime
from quant.mixed.allocate import allocate
from quant.mixed.constraint import Constraint

__all__ = ["SHARES", "Plan", "make_plans"]

SHARES = (1.0, 0.95, 0.85)
"""Shares of the time that can be saved, a plan for each."""


@dataclass(frozen=True)
class Plan:
    """A choice of units.

    Attributes:
        share: of the time that can be saved, at least.
        plain: names of the units that stay float.
        saved_ms: predicted against all of them in float.
        loss: Σ Ω of those that are quantized.
    """

    share: float
    plain: tuple[str, ...]
    saved_ms: float
    loss: float


def make_plans(
    times: Sequence[UnitTime], losses: Mapping[str, float], shares: Sequence[float] = SHARES
) -> list[Plan]:
    """A plan for each share, without those that leave nothing in float or equal an earlier one.

    Args:
        times: of every unit that is up for choice.
        losses: Ω by unit.
        shares: between 0 and 1.
    """
    faster = [unit for unit in times if unit.speedup.value > 1.0]
    never = [unit.unit for unit in times if unit.speedup.value <= 1.0]
    plans: list[Plan] = []
    for share in shares:
        kept = _least_loss(faster, losses, share)
        floats = {*never, *(unit.unit for unit in faster if unit not in kept)}
        plan = Plan(
            share=share,
            plain=tuple(unit.unit for unit in times if unit.unit in floats),
            saved_ms=sum(unit.saved_ms for unit in kept),
            loss=sum(losses[unit.unit] for unit in kept),
        )
        if plan.plain and plan.plain not in [earlier.plain for earlier in plans]:
            plans.append(plan)
    return plans


def _least_loss(faster: Sequence[UnitTime], losses: Mapping[str, float], share: float) -> list[UnitTime]:
    if share >= 1.0 or not faster:
        return list(faster)
    cost = np.array([[unit.plain_ms, unit.quantized_ms] for unit in faster])
    limit = cost[:, 0].sum() - share * sum(unit.saved_ms for unit in faster)
    omega = np.array([[0.0, max(losses[unit.unit], 0.0)] for unit in faster])
    choice = allocate(omega, [Constraint("latency", " ms", cost, float(limit))])
    return [unit for unit, column in zip(faster, choice, strict=True) if column == 1]
