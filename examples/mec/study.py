"""All contenders on the same traces: closed loops, open loop, gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from examples.mec.comparison import ClosedLoop, Contender, OpenLoop, closed_loop, open_loop
from examples.mec.gates import Gate, judge
from examples.mec.queues import States
from examples.mec.simulation import Trajectory, simulate
from examples.mec.system import Floats, MecSystem
from examples.mec.traces import Trace
from quant.progress import Progress, silent

__all__ = ["Curves", "Result", "Study", "compare_all"]


@dataclass(frozen=True)
class Curves:
    """Means over traces, slot by slot [T].

    Attributes:
        backlog: Q, Mb per user.
        rate: of all users together, Mbps.
        arrivals: likewise.
        energy: e, J per user.
        objective: the critic's value of what was done, Mb².
    """

    backlog: Floats
    rate: Floats
    arrivals: Floats
    energy: Floats
    objective: Floats


@dataclass(frozen=True)
class Result:
    """What became of one contender.

    Attributes:
        name: its name.
        loops: closed loops by number of candidates.
        curves: of the closed loop with the most candidates.
        states: the open loop; None of baselines, which have no logits.
        gates: empty of baselines.
        same_decisions: share of states in which the exported file decides as the fake-quant model.
    """

    name: str
    loops: Mapping[int, ClosedLoop]
    curves: Curves
    states: OpenLoop | None = None
    gates: Sequence[Gate] = ()
    same_decisions: float | None = None

    @property
    def passed(self) -> bool:
        """Whether it was judged and every gate holds."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)


@dataclass(frozen=True)
class Study:
    """The float actor and the others.

    Attributes:
        reference: the float actor beside itself.
        results: the others, in order.
        states: what the float actor came to, evenly spaced.
    """

    reference: Result
    results: Sequence[Result]
    states: States = field(repr=False)

    def named(self, name: str) -> Result:
        """One of the others."""
        return next(result for result in self.results if result.name == name)


def compare_all(
    system: MecSystem,
    trace: Trace,
    reference: Contender,
    others: Sequence[Contender],
    baselines: Sequence[Contender] = (),
    *,
    steady: bool = True,
    states: int = 1024,
    same_decisions: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> Study:
    """Simulate and judge.

    Args:
        system: the constants.
        trace: traces side by side [S, T, N].
        reference: the float actor.
        others: contenders with a first candidate of their own: they are judged by the gates.
        baselines: contenders that are simulated only.
        steady: whether the float actor's queues settle at these arrivals; then a single candidate is
            simulated too.
        states: about how many states of the float actor's simulation are judged.
        same_decisions: by contender, for the gate on the exported file.
        progress: told what is done.
    """
    most = system.users
    counts = (1, most) if steady else (most,)
    agreed = same_decisions or {}

    def run(contender: Contender, count: int) -> Trajectory:
        what = f"simulating {contender.name}, {count} candidate{'s' * (count > 1)}"
        return simulate(
            system, trace, contender.policy(count), tell=lambda done: progress(what, done, trace.frames)
        )

    float_loops = {count: run(reference, count) for count in counts}
    step = max(trace.frames * len(trace.gains) // states, 1)
    visited = float_loops[most].states(slice(None, None, step))

    def result(contender: Contender, judged: bool) -> Result:
        known = float_loops if contender is reference else {}
        own = {k: known.get(k) or run(contender, k) for k in (counts if judged else (most,))}
        loops = {k: closed_loop(system, float_loops[k], trajectory) for k, trajectory in own.items()}
        if not judged:
            return Result(contender.name, loops, _curves(own[most]))
        answers = open_loop(system, visited, reference, contender, (1, most))
        same = agreed.get(contender.name)
        gates = judge(most, loops, answers, steady, same)
        return Result(contender.name, loops, _curves(own[most]), answers, gates, same)

    return Study(
        result(reference, True),
        [result(other, True) for other in others] + [result(other, False) for other in baselines],
        visited,
    )


def _curves(trajectory: Trajectory) -> Curves:
    def total(values: Floats) -> Floats:
        return np.asarray(values.sum(axis=2).mean(axis=0))

    users = trajectory.trace.active.sum(axis=2).mean(axis=0)
    return Curves(
        backlog=total(trajectory.backlog) / users,
        rate=total(trajectory.rates),
        arrivals=total(trajectory.trace.arrivals),
        energy=total(trajectory.energies) / users,
        objective=trajectory.objective.mean(axis=0),
    )
