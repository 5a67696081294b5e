"""A trained actor in a file: weights, and what they were trained for.

A safetensors file, weights in float16, which halves it. Its metadata hold the actor's architecture, the
system's constants and how it was trained, as JSON, so that a checkpoint is never used for a system that it
does not know.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import safetensors
import safetensors.torch

from examples.mec.system import MecSystem
from examples.mec.transformer import MecTransformer
from quant.errors import BadInput
from quant.files import replace_bytes
from quant.models.checkpoint import apply_weights, read_weights

__all__ = [
    "Architecture",
    "Checkpoint",
    "Record",
    "Training",
    "load_checkpoint",
    "read_record",
    "save_checkpoint",
]

_KEY = "mec"


@dataclass(frozen=True)
class Architecture:
    """Arguments of :class:`examples.mec.transformer.MecTransformer`."""

    users: int = 10
    width: int = 64
    depth: int = 2
    heads: int = 4
    hidden: int = 128
    masked: bool = False

    def build(self) -> MecTransformer:
        """An actor with random weights."""
        return MecTransformer(**asdict(self))


@dataclass(frozen=True)
class Training:
    """How an actor was trained.

    Attributes:
        arrival: mean arrivals λ, Mb per slot and user.
        frames: slots.
        seed: of everything drawn.
        changes: how often the number of users changed.
        fewest: the least number of users.
    """

    arrival: float
    frames: int
    seed: int
    changes: int = 0
    fewest: int | None = None


@dataclass(frozen=True)
class Record:
    """What a checkpoint is of.

    Attributes:
        architecture: the actor.
        system: what it decides for.
        training: how it learned.
        losses: cross-entropy of each training step, in nats per user.
    """

    architecture: Architecture
    system: MecSystem
    training: Training
    losses: tuple[float, ...] = ()

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` gave; raises TypeError, ValueError or KeyError for anything else."""
        values: dict[str, Any] = json.loads(text)
        return cls(
            Architecture(**values["architecture"]),
            MecSystem(**values["system"]),
            Training(**values["training"]),
            tuple(values["losses"]),
        )


@dataclass(frozen=True)
class Checkpoint:
    """A trained actor in evaluation mode and what it is of."""

    model: MecTransformer
    record: Record


def save_checkpoint(path: Path, model: MecTransformer, record: Record) -> None:
    """Write a checkpoint; equal weights and records give equal bytes."""
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    replace_bytes(path, safetensors.torch.save(weights, {_KEY: record.to_json()}))


def read_record(path: Path) -> Record:
    """Read what a checkpoint is of.

    Raises:
        BadInput: the file is missing, is no safetensors file, or was not written by :func:`save_checkpoint`.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise BadInput(f"{path}: cannot be read as safetensors ({error})") from error
    try:
        return Record.from_json(metadata[_KEY])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path}: does not say what it was trained for ({error!r}); `python -m examples.mec.train` "
            "writes such files"
        ) from error


def load_checkpoint(
    path: Path, system: MecSystem | None = None, architecture: Architecture | None = None
) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: the file.
        system: what it must have been trained for; any where it is None.
        architecture: what it must be; any where it is None.

    Raises:
        BadInput: the file cannot be used; of a mismatch, naming each constant that differs and both values.
    """
    record = read_record(path)
    for wanted, found in ((system, record.system), (architecture, record.architecture)):
        if wanted is not None:
            _refuse_mismatch(path, asdict(wanted), asdict(found))
    model = record.architecture.build()
    apply_weights(model, read_weights(path), str(path))
    return Checkpoint(model.eval(), record)


def _refuse_mismatch(path: Path, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    different = [
        f"{name} is {found[name]}, not {value}" for name, value in wanted.items() if found[name] != value
    ]
    if different:
        raise BadInput(
            f"{path}: was trained for something else: {'; '.join(different)}. Train one with `python -m "
            "examples.mec.train`, or use the settings of the file"
        )
