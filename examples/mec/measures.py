"""What a simulation amounts to: rates, queues, energy."""

from dataclasses import dataclass

import numpy as np

from examples.mec.simulation import Trajectory
from examples.mec.system import Floats, MecSystem
from examples.mec.traces import Trace

__all__ = ["Measures", "second_half", "summarize"]


@dataclass(frozen=True)
class Measures:
    """Means over slots and simulations.

    Attributes:
        rate: data served by all users together, Mbps.
        weighted_rate: the same, each user by its weight.
        arrivals: data that arrived for all users, Mbps.
        lost: data that users which left took along, Mbps.
        backlog: Q, Mb per user that was there.
        slope: of the mean backlog over time, Mb per slot and user.
        debt: Y, mJ per user.
        energy: e, J per slot and user.
        worst_energy: of the user that spent most, J per slot.
        offloading: share of the users that offloaded.
        objective: the critic's value of what was done, Mb².
    """

    rate: float
    weighted_rate: float
    arrivals: float
    lost: float
    backlog: float
    slope: float
    debt: float
    energy: float
    worst_energy: float
    offloading: float
    objective: float

    @property
    def served(self) -> float:
        """Rate as a share of what arrived."""
        return self.rate / self.arrivals


def summarize(system: MecSystem, trajectory: Trajectory) -> Measures:
    """Measure all of a trajectory; users that are not there do not count."""
    active = trajectory.trace.active
    present = active.sum()
    frames = trajectory.trace.frames
    per_user = active.sum(axis=(0, 1)).clip(min=1)
    backlog = trajectory.backlog.sum(axis=2) / active.sum(axis=2)
    time = np.arange(frames) - (frames - 1) / 2
    return Measures(
        rate=_sum_rate(trajectory.rates),
        weighted_rate=_sum_rate(trajectory.rates * system.weights),
        arrivals=_sum_rate(trajectory.trace.arrivals),
        lost=_sum_rate(trajectory.lost),
        backlog=float(trajectory.backlog.sum() / present),
        # Least squares: the mean over the simulations of Σ t·Q / Σ t².
        slope=float((backlog @ time).mean() / max((time**2).sum(), 1.0)),
        debt=float(trajectory.debt.sum() / present),
        energy=float(trajectory.energies.sum() / present),
        worst_energy=float((trajectory.energies.sum(axis=(0, 1)) / per_user).max()),
        offloading=float(trajectory.offload.sum() / present),
        objective=float(trajectory.objective.mean()),
    )


def second_half(trajectory: Trajectory) -> Trajectory:
    """The slots from T / 2 on, where the start has no effect any more."""
    half = slice(trajectory.trace.frames // 2, None)
    trace = trajectory.trace
    return Trajectory(
        trace=Trace(trace.gains[:, half], trace.arrivals[:, half], trace.active[:, half]),
        backlog=trajectory.backlog[:, half],
        debt=trajectory.debt[:, half],
        offload=trajectory.offload[:, half],
        rates=trajectory.rates[:, half],
        energies=trajectory.energies[:, half],
        lost=trajectory.lost[:, half],
        objective=trajectory.objective[:, half],
        winner=trajectory.winner[:, half],
    )


def _sum_rate(values: Floats) -> float:
    return float(values.sum(axis=2).mean())
