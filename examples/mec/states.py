"""The data of this workload: states that the float actor comes to, and the critic's best decision for each.

Registered as the image source ``mec_states``. Nothing is stored or downloaded: the states follow from the
checkpoint and a seed, by simulation.

- Split ``calibration`` has what the ranges must cover: the start, when queues are empty; the steady state;
and the
  recovery from the highest backlog that is to be supported. An 8-bit range that a queue grows out of
  saturates, so that is part of the specification.
- Split ``validation`` has the slots of other simulations from their start on, evenly spaced. Labels are exact
where all
  2^N decisions can be compared, and coordinate descent's from the actor's decision elsewhere.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from examples.mec.actors import TorchActor
from examples.mec.candidates import order_preserving
from examples.mec.checkpoint import Checkpoint, load_checkpoint
from examples.mec.features import features
from examples.mec.policies import ActorPolicy, CoordinateDescent, Exhaustive
from examples.mec.queues import States
from examples.mec.simulation import simulate
from examples.mec.system import Bools
from examples.mec.traces import Trace, cut, draw_trace, stack_traces
from quant.data.config import SourceConfig
from quant.data.sources import register_source, required_path
from quant.errors import BadInput
from quant.files import file_sha256
from quant.recipe import parse

__all__ = ["StatesOptions", "StatesSource", "calibration_states", "join_states", "validation_states"]

_SPLITS = ("calibration", "validation")
_SEEDS = {
    "calibration": 2_000_000,
    "validation": 3_000_000,
}  # apart from training's traces and those of the tests
_CHUNK = 64  # states whose 2^N decisions are compared at once
_EXACT_USERS = 12


class StatesOptions(BaseModel):
    """Options of the source.

    Attributes:
        states: how many states there are, about.
        traces: simulations, side by side.
        frames: slots of each.
        high_backlog: data that each user has when the recovery begins, Mb; only of split calibration.
        seed: of the traces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    states: int = Field(default=1024, ge=8)
    traces: int = Field(default=8, ge=1)
    frames: int = Field(default=1000, ge=8)
    high_backlog: float = Field(default=150.0, ge=0)
    seed: int = Field(default=0, ge=0)


@register_source("mec_states", options=True)
class StatesSource:
    """States as tokens [N, 3] (or [N, 4]); labels are bit masks, bit i where user i offloads.

    Raises:
        BadInput: the checkpoint, the split or an option cannot be used.
    """

    num_classes = None  # a label is no class

    def __init__(self, config: SourceConfig) -> None:
        options = parse(StatesOptions, config.options, f"options of kind {config.kind}")
        if config.split not in _SPLITS:
            raise BadInput(f"kind {config.kind} needs a split: {' or '.join(_SPLITS)}; given: {config.split}")
        path = required_path(config)
        self._split = config.split
        self._checkpoint = load_checkpoint(path)
        self._states = _drawn(path, file_sha256(path), config.split, options)
        self._tokens = features(self._states, self._checkpoint.record.architecture.masked)

    def __len__(self) -> int:
        return len(self._states)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], int]:
        return self._tokens[index], self.labels[index]

    def name(self, index: int) -> str:
        """Return the split and the state's number."""
        return f"{self._split}[{index}]"

    @cached_property
    def labels(self) -> Sequence[int]:
        """The best decision of each state; found when first asked for."""
        return best_masks(self._checkpoint, self._states)


def calibration_states(checkpoint: Checkpoint, options: StatesOptions) -> States:
    """The start and the steady state, three eighths of all each, and a quarter of recovery."""
    policy = ActorPolicy(checkpoint.record.system, _actor(checkpoint), checkpoint.record.system.users)
    traces = _traces(checkpoint, options, _SEEDS["calibration"])
    each = max(options.states // (8 * options.traces), 1)
    own = simulate(checkpoint.record.system, traces, policy)
    start = slice(0, 3 * each)
    steady = slice(3 * each, None, max((options.frames - 3 * each) // (3 * each), 1))
    recovery = simulate(checkpoint.record.system, cut(traces, 8 * each), policy, options.high_backlog)
    return join_states([own.states(start), own.states(steady), recovery.states(slice(0, None, 4))])


def validation_states(checkpoint: Checkpoint, options: StatesOptions) -> States:
    """Slots of simulations that begin with empty queues, evenly spaced."""
    policy = ActorPolicy(checkpoint.record.system, _actor(checkpoint), checkpoint.record.system.users)
    own = simulate(checkpoint.record.system, _traces(checkpoint, options, _SEEDS["validation"]), policy)
    each = max(options.states // options.traces, 1)
    return own.states(slice(0, None, max(options.frames // each, 1)))


def join_states(parts: Sequence[States]) -> States:
    """One after the other."""
    return States(
        np.concatenate([part.gains for part in parts]),
        np.concatenate([part.backlog for part in parts]),
        np.concatenate([part.debt for part in parts]),
        np.concatenate([part.active for part in parts]),
    )


def best_masks(checkpoint: Checkpoint, states: States) -> list[int]:
    """The critic's best decision of each state, as an integer with bit i set where user i offloads."""
    system, actor = checkpoint.record.system, _actor(checkpoint)

    def first(some: States) -> Bools:
        return order_preserving(actor.logits(some), some.active, 1)[:, 0]

    exact = system.users <= _EXACT_USERS
    policy = Exhaustive(system) if exact else CoordinateDescent(system, first)
    masks: list[int] = []
    for begin in range(0, len(states), _CHUNK):
        decision = policy.decide(states[begin : begin + _CHUNK])
        masks += [sum(1 << int(user) for user in np.flatnonzero(row)) for row in decision.offload]
    return masks


@lru_cache(maxsize=8)
def _drawn(
    path: Path, sha256: str, split: Literal["calibration", "validation"], options: StatesOptions
) -> States:
    """Every stage of a run opens its sources anew, so states are kept while the checkpoint is the same."""
    del sha256  # part of the key
    draw = calibration_states if split == "calibration" else validation_states
    return draw(load_checkpoint(path), options)


def _actor(checkpoint: Checkpoint) -> TorchActor:
    return TorchActor(checkpoint.model, checkpoint.record.architecture.masked)


def _traces(checkpoint: Checkpoint, options: StatesOptions, seeds: int) -> Trace:
    training, system = checkpoint.record.training, checkpoint.record.system
    return stack_traces(
        [
            draw_trace(
                system,
                training.arrival,
                options.frames,
                seeds + 1000 * options.seed + index,
                changes=training.changes,
                fewest=training.fewest,
            )
            for index in range(options.traces)
        ]
    )
