"""What a quantized actor must reach to be called as good as the float one.

The rate alone says little: at λ = 3 every policy that keeps the queues stable serves what arrives, and the
critic hides errors of the actor. So there are gates on the queues, on the critic's values of single
decisions, and on the decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from examples.mec.comparison import ClosedLoop, OpenLoop

__all__ = ["Gate", "judge", "passed"]


@dataclass(frozen=True)
class Gate:
    """One condition.

    Attributes:
        name: short.
        kind: which side of the limit is good.
        limit: the limit.
        measured: the figure.
    """

    name: str
    kind: Literal["at least", "at most"]
    limit: float
    measured: float

    @property
    def passed(self) -> bool:
        """Whether it holds; a figure that is not a number does not."""
        return self.measured >= self.limit if self.kind == "at least" else self.measured <= self.limit


def judge(
    most: int,
    loops: Mapping[int, ClosedLoop],
    states: OpenLoop,
    steady: bool,
    same_decisions: float | None = None,
) -> list[Gate]:
    """All gates of one variant.

    Args:
        most: K = N, candidates of the closed loop that counts.
        loops: closed loops by number of candidates: ``most``, and 1 where it is judged too.
        states: the open loop, of 1 and ``most`` candidates.
        steady: whether the queues of the float actor settle, so that a rising queue is a fault. Near the
            limit of what can be served (λ = 3.2 of ten users) they wander.
        same_decisions: share of states in which the exported file decides as the fake-quant model, where
            there is one.
    """
    loop = loops[most]
    gates = [
        Gate("rate ratio", "at least", 0.99, loop.rate),
        Gate("weighted rate ratio", "at least", 0.99, loop.weighted_rate),
        Gate("queue ratio", "at most", 1.05, loop.queue),
        Gate("objective ratio, K = 1", "at least", 0.995, states.objective[1]),
        Gate("objective ratio, K = N", "at least", 0.999, states.objective[most]),
        Gate("same decisions", "at least", 0.93, states.exact),
        Gate("F1 of offloading", "at least", 0.95, states.f1),
        Gate("energy of the worst user, J", "at most", 0.0801, loop.whole.worst_energy),
        Gate("energy queue, off by", "at most", 0.05, abs(loop.debt - 1)),
    ]
    if 1 in loops:
        gates.insert(3, Gate("queue ratio, K = 1", "at most", 1.10, loops[1].queue))
    if steady:
        gates.insert(4, Gate("slope of the queue, Mb per slot", "at most", 0.003, loop.late.slope))
    if same_decisions is not None:
        gates.append(Gate("exported file decides as simulated", "at least", 0.999, same_decisions))
    return gates


def passed(gates: list[Gate]) -> bool:
    """Whether all hold."""
    return all(gate.passed for gate in gates)
