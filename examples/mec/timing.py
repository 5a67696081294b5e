"""What an exported actor costs: bytes, and the time of one decision."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.onnx_file import file_size
from examples.mec.actors import Actor
from examples.mec.policies import ActorPolicy
from examples.mec.queues import States
from examples.mec.system import MecSystem

__all__ = ["DecisionTime", "FileSize", "size_of", "time_decisions"]

_WARM_UP = 100


@dataclass(frozen=True)
class DecisionTime:
    """Microseconds of one slot, batch 1.

    Attributes:
        actor: median of features and logits.
        actor_p99: 99th percentile.
        decision: median of the whole decision: actor, K candidates, critic.
        decision_p99: 99th percentile.
    """

    actor: float
    actor_p99: float
    decision: float
    decision_p99: float


@dataclass(frozen=True)
class FileSize:
    """Bytes of an exported actor.

    Attributes:
        file: of the file.
        weights: of the tensors in it, scales and zero points included.
    """

    file: int
    weights: int


def size_of(path: Path) -> FileSize:
    """Measure an ONNX file."""
    tensors = onnx.load(path).graph.initializer
    return FileSize(file_size(path), sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in tensors))


def time_decisions(system: MecSystem, actor: Actor, states: States, calls: int) -> DecisionTime:
    """Time an actor on states, one at a time, again from the first when they are used up.

    Args:
        system: the constants; K is its number of users.
        actor: the actor.
        states: what it judges.
        calls: counted calls of each kind, behind 100 that are not.
    """
    policy = ActorPolicy(system, actor, system.users)
    single = [states[i : i + 1] for i in range(len(states))]
    alone, whole = (_times(call, single, calls) for call in (actor.logits, policy.decide))
    return DecisionTime(*np.percentile(alone, [50, 99]), *np.percentile(whole, [50, 99]))


def _times(call: Callable[[States], object], states: list[States], calls: int) -> list[float]:
    taken = []
    for index in range(-_WARM_UP, calls):
        state = states[index % len(states)]
        start = time.perf_counter_ns()
        call(state)
        if index >= 0:
            taken.append((time.perf_counter_ns() - start) / 1e3)
    return taken
