"""A variant of the actor against the float one, on the same traces and on the same states.

Closed loop: both decide on the same traces, without learning and without noise, so that differences are
paired. Open loop: both judge the states that the float actor came to, which no queue evens out afterwards.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from examples.mec.critic import allocate
from examples.mec.measures import Measures, second_half, summarize
from examples.mec.policies import Decision
from examples.mec.queues import States
from examples.mec.simulation import Trajectory
from examples.mec.system import Bools, Floats, MecSystem
from quant.errors import BadInput

__all__ = ["CandidatePolicy", "ClosedLoop", "Contender", "Estimate", "OpenLoop", "closed_loop", "open_loop"]

_CHUNK = 256  # states judged at once


class CandidatePolicy(Protocol):
    """A policy that lets the critic choose among candidates, its own choice first."""

    def decide(self, states: States) -> Decision:
        """See :class:`examples.mec.policies.Policy`."""
        ...

    def candidates(self, states: States) -> Bools:
        """Decisions [S, C, N]."""
        ...


@dataclass(frozen=True)
class Contender:
    """What is judged.

    Attributes:
        name: in tables.
        policy: gives the policy for a number of candidates K.
    """

    name: str
    policy: Callable[[int], CandidatePolicy]


@dataclass(frozen=True)
class Estimate:
    """A mean over traces and its standard error, which is NaN of a single trace."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Floats) -> "Estimate":
        """Of one value per trace."""
        count = len(values)
        return cls(
            float(values.mean()), float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
        )


@dataclass(frozen=True)
class ClosedLoop:
    """A variant's simulations beside the float actor's.

    Attributes:
        whole: of all slots.
        late: of the second half.
        rate: ratio of the served data.
        weighted_rate: ratio of the data weighted by user.
        queue: ratio of the mean backlog, second half.
        debt: ratio of the mean virtual energy queue, second half.
        rate_difference: paired, Mbps.
        queue_difference: paired, second half, Mb per user.
    """

    whole: Measures
    late: Measures
    rate: float
    weighted_rate: float
    queue: float
    debt: float
    rate_difference: Estimate
    queue_difference: Estimate


@dataclass(frozen=True)
class OpenLoop:
    """A variant's answers to the float actor's states.

    Attributes:
        objective: mean of the ratios of the critic's values, by number of candidates.
        objective_low: their first percentile, by number of candidates.
        bits: share of users judged alike.
        exact: share of states whose whole first candidate is the same.
        f1: of "offload", the float actor's decisions being the truth.
    """

    objective: dict[int, float]
    objective_low: dict[int, float]
    bits: float
    exact: float
    f1: float


def closed_loop(system: MecSystem, reference: Trajectory, own: Trajectory) -> ClosedLoop:
    """Compare two simulations of the same traces.

    Raises:
        BadInput: they are of different traces.
    """
    if not np.array_equal(reference.trace.arrivals, own.trace.arrivals):
        raise BadInput("the two simulations are of different traces; their differences would not be paired")
    base, whole = summarize(system, reference), summarize(system, own)
    late_base, late = (
        summarize(system, late_reference := second_half(reference)),
        summarize(system, second_half(own)),
    )

    def per_trace(values: Floats) -> Floats:
        return np.asarray(values.mean(axis=(1, 2)))

    rates = per_trace(own.rates) - per_trace(reference.rates)
    queues = per_trace(second_half(own).backlog) - per_trace(late_reference.backlog)
    return ClosedLoop(
        whole,
        late,
        rate=whole.rate / base.rate,
        weighted_rate=whole.weighted_rate / base.weighted_rate,
        queue=late.backlog / late_base.backlog,
        debt=late.debt / late_base.debt,
        rate_difference=Estimate.of(system.users * rates),
        queue_difference=Estimate.of(queues),
    )


def open_loop(
    system: MecSystem, states: States, reference: Contender, own: Contender, counts: tuple[int, ...]
) -> OpenLoop:
    """Let both judge the same states.

    Args:
        system: the constants.
        states: what the float actor came to.
        reference: the float actor.
        own: the variant.
        counts: numbers of candidates K.
    """
    truth, first = _first(reference, states), _first(own, states)
    both = (first & truth).sum()
    ratios = {
        k: _ratios(_values(system, states, own, k), _values(system, states, reference, k)) for k in counts
    }
    return OpenLoop(
        objective={k: float(values.mean()) for k, values in ratios.items()},
        objective_low={k: float(np.percentile(values, 1)) for k, values in ratios.items()},
        bits=float((first == truth)[states.active].mean()),
        exact=float((first == truth).all(axis=1).mean()),
        f1=float(2 * both / max(first.sum() + truth.sum(), 1)),
    )


def _ratios(own: Floats, reference: Floats) -> Floats:
    """Ratios of values; where nothing waits, any decision is worth 0, and there is no ratio."""
    worth = reference > 0
    return own[worth] / reference[worth]


def _first(contender: Contender, states: States) -> Bools:
    """The contender's own decision [S, N]."""
    return contender.policy(1).candidates(states)[:, 0]


def _values(system: MecSystem, states: States, contender: Contender, count: int) -> Floats:
    """The critic's value of the best candidate [S]."""
    policy = contender.policy(count)
    parts = [states[begin : begin + _CHUNK] for begin in range(0, len(states), _CHUNK)]
    return np.concatenate(
        [allocate(system, part, policy.candidates(part)).objective.max(axis=1) for part in parts]
    )
