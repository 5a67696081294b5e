"""The closed loop: the policy decides, the queues follow, the next slot begins."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from examples.mec.policies import Policy
from examples.mec.queues import States, advance, first_states
from examples.mec.system import Bools, Floats, MecSystem
from examples.mec.traces import Trace
from quant.errors import BadInput

__all__ = ["Trajectory", "simulate"]


@dataclass(frozen=True)
class Trajectory:
    """What happened in S simulations of T slots.

    Attributes:
        trace: what nature did, [S, T, N].
        backlog: Q at the start of each slot [S, T, N], Mb.
        debt: Y at the start of each slot [S, T, N], mJ.
        offload: who offloaded [S, T, N].
        rates: data served [S, T, N], Mb.
        energies: energy spent [S, T, N], J.
        lost: data that users which left took along [S, T, N], Mb.
        objective: the critic's value of what was done [S, T].
        winner: index of that among the candidates [S, T].
    """

    trace: Trace
    backlog: Floats
    debt: Floats
    offload: Bools
    rates: Floats
    energies: Floats
    lost: Floats
    objective: Floats
    winner: npt.NDArray[np.intp]

    def states(self, frames: slice) -> States:
        """The states of some slots, those of the first simulation first."""
        users = self.backlog.shape[2]
        trace = self.trace
        return States(
            trace.gains[:, frames].reshape(-1, users),
            self.backlog[:, frames].reshape(-1, users),
            self.debt[:, frames].reshape(-1, users),
            trace.active[:, frames].reshape(-1, users),
        )


def simulate(
    system: MecSystem,
    trace: Trace,
    policy: Policy,
    backlog: float = 0.0,
    tell: Callable[[int], None] | None = None,
) -> Trajectory:
    """Run a policy on traces.

    Args:
        system: the constants.
        trace: one trace [T, N], or several that are simulated side by side [S, T, N].
        policy: decides; simulations do not know of each other.
        backlog: data that each user begins with, Mb.
        tell: called after each slot with how many are done.

    Raises:
        BadInput: the trace is of another number of users.
    """
    if trace.gains.ndim == 2:
        trace = Trace(trace.gains[None], trace.arrivals[None], trace.active[None])
    if trace.gains.shape[2] != system.users:
        raise BadInput(f"the trace is of {trace.gains.shape[2]} users, the system has {system.users}")
    shape = trace.gains.shape
    queues, debts, rates, energies, lost = (np.zeros(shape) for _ in range(5))
    offload = np.zeros(shape, bool)
    objective, winner = np.zeros(shape[:2]), np.zeros(shape[:2], np.intp)
    states = first_states(trace.gains[:, 0], trace.active[:, 0], backlog)
    for frame in range(trace.frames):
        if frame:
            states, lost[:, frame] = advance(
                system,
                states,
                trace.arrivals[:, frame - 1],
                rates[:, frame - 1],
                energies[:, frame - 1],
                trace.gains[:, frame],
                trace.active[:, frame],
            )
        decision = policy.decide(states)
        queues[:, frame], debts[:, frame] = states.backlog, states.debt
        offload[:, frame], objective[:, frame], winner[:, frame] = (
            decision.offload,
            decision.objective,
            decision.winner,
        )
        rates[:, frame], energies[:, frame] = decision.rates, decision.energies
        if tell is not None:
            tell(frame + 1)
    return Trajectory(trace, queues, debts, offload, rates, energies, lost, objective, winner)
