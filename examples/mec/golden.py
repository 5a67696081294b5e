"""Values of the published code, to compare the critic with.

Ten users at their mean channel gains, Q_i = 5·(i + 1) Mb, Y_i = 10·(i + 1) mJ. The values were printed with
six decimals, and the code rounds rates to six.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from examples.mec.critic import allocate
from examples.mec.policies import Exhaustive
from examples.mec.queues import States
from examples.mec.system import Floats, MecSystem

__all__ = ["BEST", "OBJECTIVES", "WITHOUT_DEBT", "golden_states", "worst_error"]

OBJECTIVES: Mapping[tuple[int, ...], float] = {
    (): 658.357707,
    (0,): 755.116672,
    (9,): 1170.544724,
    (0, 4): 1145.630580,
    tuple(range(10)): 677.278574,
}
"""Who offloads to the objective, Mb²."""

WITHOUT_DEBT: tuple[tuple[int, ...], float] = ((0, 4), 1990.484195)
"""The same where no energy was spent yet, Y = 0."""

BEST: tuple[tuple[int, ...], float] = ((8,), 1252.302948)
"""The optimum of all 1,024 decisions."""


def golden_states(system: MecSystem) -> States:
    """The state of the values, as one simulation."""
    index = np.arange(1.0, system.users + 1)[None]
    return States(system.mean_gains[None], 5 * index, 10 * index, np.ones((1, system.users), bool))


def worst_error() -> float:
    """The largest relative difference of the critic's objectives from the published ones."""
    system = MecSystem()
    states = golden_states(system)
    without_debt = replace(states, debt=np.zeros((1, system.users)))
    pairs = [(_objective(system, states, users), value) for users, value in OBJECTIVES.items()]
    users, value = WITHOUT_DEBT
    pairs.append((_objective(system, without_debt, users), value))
    best = Exhaustive(system).decide(states)
    pairs.append((float(best.objective[0]), BEST[1]))
    return max(abs(own / published - 1) for own, published in pairs)


def _objective(system: MecSystem, states: States, users: tuple[int, ...]) -> float:
    offload = np.isin(np.arange(system.users), users)[None, None]
    objective: Floats = allocate(system, states, offload).objective
    return float(objective[0, 0])
