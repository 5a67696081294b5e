"""The two queues of each user: data that waits, and energy spent beyond what is allowed."""

from dataclasses import dataclass

import numpy as np

from examples.mec.system import Bools, Floats, MecSystem

__all__ = ["States", "advance", "first_states"]


@dataclass(frozen=True)
class States:
    """What is known at the start of a slot, of S simulations side by side.

    Attributes:
        gains: channel gains h [S, N], scaled.
        backlog: Q, data that waits [S, N], Mb.
        debt: Y, the virtual energy queue [S, N], mJ: energy spent beyond the average limit so far.
        active: which users are there [S, N].
    """

    gains: Floats
    backlog: Floats
    debt: Floats
    active: Bools

    def __len__(self) -> int:
        return len(self.gains)

    def __getitem__(self, rows: slice) -> "States":
        return States(self.gains[rows], self.backlog[rows], self.debt[rows], self.active[rows])


def first_states(gains: Floats, active: Bools, backlog: float = 0.0) -> States:
    """The states of the first slot: no energy was spent, and each user that is there has ``backlog`` Mb."""
    return States(gains, np.where(active, backlog, 0.0), np.zeros(gains.shape), active)


def advance(
    system: MecSystem,
    states: States,
    arrivals: Floats,
    rates: Floats,
    energies: Floats,
    gains: Floats,
    active: Bools,
) -> tuple[States, Floats]:
    """Go from one slot to the next.

    Q(t) = max(Q(t−1) + A(t−1) − D(t−1), 0), so what arrives in a slot is served from the next one on, and
    Y(t) = max(Y(t−1) + ν·(e(t−1) − γ), 0).

    A user that leaves takes its data along: it is lost, and counted as such. Both of its queues are empty
    when a user comes again in its place, for that is a new one. So arrivals = served + waiting + lost,
    always.

    Args:
        system: gives ν and γ.
        states: of the slot that ends.
        arrivals: A, what arrived in it [S, N], Mb.
        rates: D, what was served in it [S, N], Mb.
        energies: e, what was spent in it [S, N], J.
        gains: channel gains of the slot that begins [S, N].
        active: who is there then [S, N].

    Returns:
        The states of the slot that begins, and the data lost between the two [S, N], Mb.
    """
    backlog = np.maximum(states.backlog + arrivals - rates, 0)
    debt = np.maximum(states.debt + system.energy_scale * (energies - system.energy_limit), 0)
    return States(gains, backlog * active, debt * active, active), backlog * ~active
