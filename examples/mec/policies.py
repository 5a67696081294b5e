"""Who decides which users offload: the baselines, and an actor whose candidates the critic compares."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from examples.mec.actors import Actor
from examples.mec.candidates import deduplicate, order_preserving, single_users
from examples.mec.critic import allocate
from examples.mec.queues import States
from examples.mec.system import Bools, Floats, MecSystem
from quant.errors import BadInput

__all__ = [
    "ActorPolicy",
    "AllLocal",
    "AllOffload",
    "BestOfOne",
    "CoordinateDescent",
    "Decision",
    "Exhaustive",
    "Policy",
    "Random",
    "choose",
]

_MOST_EXHAUSTIVE = 16  # users; 65,536 decisions of each state
_LEAST_GAIN = 1e-9  # relative; equal values differ by rounding, and descent must end


@dataclass(frozen=True)
class Decision:
    """What was decided in one slot of S simulations.

    Attributes:
        offload: who offloads [S, N].
        rates: data served [S, N], Mb.
        energies: energy spent [S, N], J.
        objective: the critic's value [S].
        winner: index of the decision among the candidates [S].
        candidates: how many the critic evaluated in each simulation.
    """

    offload: Bools
    rates: Floats
    energies: Floats
    objective: Floats
    winner: npt.NDArray[np.intp]
    candidates: int


class Policy(Protocol):
    """Decides slot after slot; it may remember earlier ones."""

    def decide(self, states: States) -> Decision:
        """Decide one slot of all simulations."""
        ...


def choose(system: MecSystem, states: States, candidates: Bools) -> Decision:
    """Take the candidate [S, C, N] that the critic values most, the first one of equals."""
    allocation = allocate(system, states, candidates)
    winner = allocation.objective.argmax(axis=1)
    rows = np.arange(len(states))
    rates, energies = allocation.of(winner)
    count = candidates.shape[1]
    return Decision(
        candidates[rows, winner], rates, energies, allocation.objective[rows, winner], winner, count
    )


@dataclass(frozen=True)
class ActorPolicy:
    """Order-preserving candidates of an actor, without noise and without learning.

    Attributes:
        system: the constants.
        actor: gives the logits.
        count: K, candidates in each slot; more than there are users means all of theirs.
        guard: also nobody and each user alone, for the rare slot in which no logit is near the right side of
            0.
    """

    system: MecSystem
    actor: Actor
    count: int
    guard: bool = False

    def decide(self, states: States) -> Decision:
        """See :class:`Policy`."""
        return choose(self.system, states, self.candidates(states))

    def candidates(self, states: States) -> Bools:
        """What the critic compares [S, C, N]."""
        count = min(self.count, self.system.users)
        candidates = order_preserving(self.actor.logits(states), states.active, count)
        if not self.guard:
            return candidates
        candidates = np.concatenate([candidates, single_users(states.active)], axis=1)
        return deduplicate(candidates)[0] if len(states) == 1 else candidates


@dataclass(frozen=True)
class _Fixed(ABC):
    """One set of candidates for every state."""

    system: MecSystem

    def decide(self, states: States) -> Decision:
        """See :class:`Policy`."""
        return choose(self.system, states, self.candidates(states))

    @abstractmethod
    def candidates(self, states: States) -> Bools:
        """What the critic compares [S, C, N]."""


class AllLocal(_Fixed):
    """Nobody offloads."""

    def candidates(self, states: States) -> Bools:
        """One decision [S, 1, N]."""
        return np.zeros((len(states), 1, self.system.users), bool)


class AllOffload(_Fixed):
    """All users that are there offload."""

    def candidates(self, states: States) -> Bools:
        """One decision [S, 1, N]."""
        return states.active[:, None]


class BestOfOne(_Fixed):
    """The better of nobody and any single user: N + 1 evaluations, and nearly always the optimum."""

    def candidates(self, states: States) -> Bools:
        """Decisions [S, N + 1, N]."""
        return single_users(states.active)


class Exhaustive(_Fixed):
    """All 2^N decisions: the optimum of each slot.

    Raises:
        BadInput: there are more than 16 users.
    """

    def candidates(self, states: States) -> Bools:
        """Decisions [S, 2^N, N]; those that name an absent user are repetitions."""
        users = self.system.users
        if users > _MOST_EXHAUSTIVE:
            raise BadInput(f"exhaustive search is for up to {_MOST_EXHAUSTIVE} users, not {users}")
        every = (np.arange(2**users)[:, None] >> np.arange(users)) & 1
        return every.astype(bool) & states.active[:, None]


class Random:
    """Each user offloads with probability ½, by a seed."""

    def __init__(self, system: MecSystem, seed: int) -> None:
        self._system = system
        self._generator = np.random.default_rng(seed)

    def decide(self, states: States) -> Decision:
        """See :class:`Policy`."""
        drawn = self._generator.random(states.active.shape) < 0.5
        return choose(self._system, states, (drawn & states.active)[:, None])


class CoordinateDescent:
    """Change one user at a time, the one that gains most, until none does.

    It begins where the last slot ended. (The baseline LyCD of the paper named in :mod:`examples.mec.system`.)

    Args:
        system: the constants.
        start: gives the first decision [S, N]; nobody offloads without it.
    """

    def __init__(self, system: MecSystem, start: Callable[[States], Bools] | None = None) -> None:
        self._system = system
        self._start = start
        self._last: Bools | None = None

    def decide(self, states: States) -> Decision:
        """See :class:`Policy`."""
        users = self._system.users
        if self._start is not None or self._last is None:
            self._last = np.zeros(states.active.shape, bool) if self._start is None else self._start(states)
        best = choose(self._system, states, (self._last & states.active)[:, None])
        evaluated = 1
        flips = np.eye(users, dtype=bool) & states.active[:, None]
        while True:
            around = choose(self._system, states, best.offload[:, None] ^ flips)
            evaluated += users
            better = around.objective > best.objective * (1 + _LEAST_GAIN)
            if not better.any():
                self._last = best.offload
                return replace(best, candidates=evaluated)
            best = _merged(better, around, best)


def _merged(first: Bools, new: Decision, old: Decision) -> Decision:
    """The new decision in the simulations of ``first`` [S], the old one in the others."""

    def pick(name: str) -> npt.NDArray[Any]:
        own = getattr(new, name)
        return np.asarray(np.where(first.reshape(-1, *[1] * (own.ndim - 1)), own, getattr(old, name)))

    names = ("offload", "rates", "energies", "objective", "winner")
    return Decision(**{name: pick(name) for name in names}, candidates=new.candidates)
