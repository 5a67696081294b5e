"""The contenders of a study, by name."""

from collections.abc import Callable, Mapping
from functools import partial

from examples.mec.actors import Actor, TorchActor
from examples.mec.comparison import CandidatePolicy, Contender
from examples.mec.policies import ActorPolicy, AllLocal, AllOffload, BestOfOne, Exhaustive
from examples.mec.system import MecSystem
from examples.mec.transformer import MecTransformer

__all__ = ["BASELINES", "actor", "all_local", "baseline", "torch_actor"]

BASELINES: Mapping[str, Callable[[MecSystem], CandidatePolicy]] = {
    "best_of_one": BestOfOne,
    "exhaustive": Exhaustive,
    "all_offload": AllOffload,
}
"""Policies without an actor; their candidates do not depend on K."""


def actor(name: str, system: MecSystem, judge: Actor) -> Contender:
    """An actor's order-preserving candidates, without noise and without a guard."""
    return Contender(name, partial(ActorPolicy, system, judge))


def torch_actor(name: str, system: MecSystem, model: MecTransformer) -> Contender:
    """A model in PyTorch."""
    return actor(name, system, TorchActor(model, model.masked))


def all_local(system: MecSystem) -> Contender:
    """Nobody offloads, whatever K is: a negative control."""
    return Contender("all_local", lambda _count: AllLocal(system))


def baseline(name: str, system: MecSystem) -> Contender:
    """One of :data:`BASELINES`."""
    return Contender(name, lambda _count: BASELINES[name](system))
