"""What nature does, drawn ahead: channel gains, arrivals, and who is there.

All policies that are compared meet the same trace, so that their differences are paired.
"""

from dataclasses import dataclass

import numpy as np

from examples.mec.system import Bools, Floats, MecSystem
from quant.errors import BadInput

__all__ = ["Trace", "cut", "draw_trace", "stack_traces"]


@dataclass(frozen=True)
class Trace:
    """Frames of one or several independent simulations.

    Attributes:
        gains: channel gains [..., T, N], times the system's ``gain_scale``.
        arrivals: data that arrives in each slot [..., T, N], Mb.
        active: which users are there [..., T, N]; the others get no data.
    """

    gains: Floats
    arrivals: Floats
    active: Bools

    @property
    def frames(self) -> int:
        """T, slots of the trace."""
        return int(self.gains.shape[-2])


def draw_trace(
    system: MecSystem, arrival: float, frames: int, seed: int, changes: int = 0, fewest: int | None = None
) -> Trace:
    """Draw one trace.

    Gains are Rician, independent in each slot: h = (√(s·h̄) + σ·g₁)² + (σ·g₂)² with s the line-of-sight
    share, σ² = (1 − s)·h̄ / 2 and g₁, g₂ ~ N(0, 1), so that E[h] = h̄. Arrivals are exponential.

    Args:
        system: gives the users and their mean gains.
        arrival: mean arrivals λ, Mb per slot and user.
        frames: T.
        seed: of everything drawn.
        changes: how often the number of users changes; the first users are there, the others are not.
        fewest: the least number of users then; all of them where it is None.

    Raises:
        BadInput: there are no frames, no arrivals, or fewer than one or more than N users.
    """
    if frames < 1 or arrival <= 0 or changes < 0:
        raise BadInput(
            f"a trace needs frames >= 1, arrivals > 0, changes >= 0; got {frames}, {arrival}, {changes}"
        )
    least = system.users if fewest is None else fewest
    if not 1 <= least <= system.users:
        raise BadInput(f"fewest is {least}; from 1 to the {system.users} users are allowed")
    generator = np.random.default_rng(seed)
    mean, shape = system.mean_gains, (frames, system.users)
    sigma = np.sqrt((1 - system.line_of_sight) * mean / 2)
    direct = np.sqrt(system.line_of_sight * mean) + sigma * generator.standard_normal(shape)
    gains = direct**2 + (sigma * generator.standard_normal(shape)) ** 2
    arrivals = generator.exponential(arrival, shape)
    active = _activity(generator, frames, system.users, changes, least)
    return Trace(gains, arrivals * active, active)


def stack_traces(traces: list[Trace]) -> Trace:
    """Put traces of equal length side by side, [S, T, N]: they are simulated together."""
    return Trace(
        np.stack([trace.gains for trace in traces]),
        np.stack([trace.arrivals for trace in traces]),
        np.stack([trace.active for trace in traces]),
    )


def cut(trace: Trace, frames: int) -> Trace:
    """The first slots of a trace, or of several."""
    return Trace(trace.gains[..., :frames, :], trace.arrivals[..., :frames, :], trace.active[..., :frames, :])


def _activity(generator: np.random.Generator, frames: int, users: int, changes: int, fewest: int) -> Bools:
    """Who is there [T, N]: numbers of users from fewest to N, that change at random frames."""
    counts = generator.integers(fewest, users + 1, changes + 1)
    turns = np.sort(generator.choice(np.arange(1, frames), min(changes, frames - 1), replace=False))
    count = counts[np.searchsorted(turns, np.arange(frames), side="right")]
    return np.asarray(np.arange(users) < count[:, None])
