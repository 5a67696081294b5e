"""The file that ``python -m benchmarks.peers`` leaves: ``peers.json``."""

from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    ValidationError,
    model_validator,
)

from benchmarks.environment import Environment
from benchmarks.files import write_text
from benchmarks.latency import Noise
from benchmarks.peers.registry import Backend
from benchmarks.results import Variant
from quant.errors import BadInput

__all__ = ["PEERS_FILE", "SCHEMA_VERSION", "PeerResult", "PeerResults", "load_peers", "save_peers"]

PEERS_FILE = "peers.json"
SCHEMA_VERSION: Literal[1] = 1


class PeerResult(BaseModel):
    """What became of one peer: a variant, or the reason why there is none.

    Attributes:
        name: unique in the file.
        tool: the tool in words.
        settings: its settings in words.
        options: the same as its script was told.
        backend: what runs the model.
        versions: package name to version, in the environment that made it.
        seconds: what quantizing took, imports left out; of no use to compare tools on a busy machine.
        peak_mib: the most memory that the process which quantized ever held; ``None`` where it cannot tell.
        variant: its figures; the file is relative to this one. ``None`` where it failed.
        failure: why it could not be made or run, in one line. ``None`` where it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str = Field(min_length=1)
    tool: str
    settings: str
    options: dict[str, JsonValue] = {}
    backend: Backend
    versions: dict[str, str] = {}
    seconds: NonNegativeFloat | None = None
    peak_mib: NonNegativeFloat | None = None
    variant: Variant | None = None
    failure: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.variant is None) == (self.failure is None):
            raise ValueError(f"{self.name}: needs a variant or the reason why there is none, and not both")
        if self.variant is not None and self.variant.name != self.name:
            raise ValueError(f"{self.name}: its variant is called {self.variant.name!r}")
        return self


class PeerResults(BaseModel):
    """Everything measured on the peers of one run.

    Attributes:
        schema_version: version of this layout.
        created: when, in UTC.
        command: the command that computes it again.
        model: name of the model.
        data: the images accuracy was measured on, in words.
        calibration: the images that peers were given, in words.
        inputs: digest of float model, calibration images and validation images: peers of other ones are not
            comparable.
        environment: where it was measured.
        reference: the float model.
        peers: in the order of the table.
        noise: how far the float model was from itself, where the models were timed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    schema_version: Literal[1] = SCHEMA_VERSION
    created: datetime
    command: str
    model: str
    data: str
    calibration: str
    inputs: str
    environment: Environment
    reference: Variant
    peers: tuple[PeerResult, ...]
    noise: tuple[Noise, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [self.reference.name, *(peer.name for peer in self.peers)]
        if len(set(names)) != len(names):
            raise ValueError(f"names must differ, got {', '.join(names)}")
        variants = (self.reference, *(p.variant for p in self.peers if p.variant is not None))
        if len({v.accuracy.n for v in variants if v.accuracy is not None}) != 1:
            raise ValueError("all models must be judged on the same images, but their counts differ")
        if self.created.utcoffset() is None:
            raise ValueError("`created` must carry a time zone; use UTC")
        return self

    @property
    def made(self) -> tuple[PeerResult, ...]:
        """Those that did not fail."""
        return tuple(peer for peer in self.peers if peer.variant is not None)


def save_peers(results: PeerResults, path: Path) -> None:
    """Write the results as JSON; a reader sees the old file or the whole new one, never half of it.

    Raises:
        BadInput: the folder does not exist or cannot be written.
    """
    write_text(path, results.model_dump_json(indent=2) + "\n")


def load_peers(path: Path) -> PeerResults:
    """Read the results back.

    Raises:
        BadInput: the file cannot be read, is not JSON, or does not have this layout; the message names the
            first places that are wrong.
    """
    try:
        return PeerResults.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(
            f"cannot read {path}: {error.strerror}; run `python -m benchmarks.peers RUN` first"
        ) from error
    except ValidationError as error:
        places = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:3]]
        raise BadInput(
            f"{path} has no peers that this version of Octavo can read (layout {SCHEMA_VERSION}): "
            + "; ".join(places)
        ) from error
