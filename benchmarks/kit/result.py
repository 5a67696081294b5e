"""What a device sends back (``result.json``): raw times, footprints and answers, checked and read."""

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from benchmarks.harness.process import Footprint
from benchmarks.harness.turns import Times
from benchmarks.kit.content import Answers, How, Runtime
from benchmarks.kit.device import Device, State
from benchmarks.kit.measure import seal
from quant.errors import BadInput

__all__ = [
    "Build",
    "Device",
    "EnginePart",
    "OneProcess",
    "Part",
    "Result",
    "State",
    "is_result",
    "read_result",
]

_HEAD = 64  # bytes in which a result tells what it is


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class GpuMemory(_Model):
    """What one process took of a GPU's memory, in MiB.

    Attributes:
        loaded_mib: by how much less was free after the engine, its context and its buffers were there.
        steady_mib: the same after the last call.
        process_mib: of the whole process, CUDA's own context included, by nvidia-smi; None where it does not
            tell, as inside a container.
    """

    loaded_mib: float
    steady_mib: float
    process_mib: float | None


class OneProcess(_Model):
    """One model in one process; times in ms; ``gpu`` is None of one that used none."""

    load_ms: float
    first_ms: float
    warmup_ms: tuple[float, ...]
    steady_ms: tuple[float, ...] = Field(min_length=1)
    footprint: Footprint
    gpu: GpuMemory | None = None

    @property
    def times(self) -> Times:
        """As the main harness has them."""
        return Times(self.first_ms, self.warmup_ms, self.steady_ms)


class Settings(How):
    """How it was measured.

    Attributes:
        cpus: the processors that the processes were bound to; None where they were not.
    """

    cpus: tuple[int, ...] | None


class Part(_Model):
    """What one runtime did.

    Attributes:
        variants: keys of those that were measured.
        remarks: name of a variant to what is special about how it ran.
        packages: name to version.
        settings: how it was measured.
        answers: name of a variant to its logits.
        sets: in each, name of a variant to its process; those of one set lived side by side.
        errors: name of a variant to why it failed.
    """

    variants: tuple[str, ...]
    remarks: dict[str, str]
    packages: dict[str, str]
    settings: Settings
    answers: dict[str, Answers]
    sets: tuple[dict[str, OneProcess], ...]
    errors: dict[str, str]

    @model_validator(mode="after")
    def _even(self) -> Self:
        calls = {len(one.steady_ms) for processes in self.sets for one in processes.values()}
        if calls - {self.settings.calls}:
            raise ValueError(f"processes made {sorted(calls)} calls, not {self.settings.calls}")
        return self


class Build(_Model):
    """An engine that was run.

    Attributes:
        own: whether it is the kit's.
        seconds: building it on the device took; None of the kit's.
        why: the kit's does not fit the device; empty where it does, or there is none.
        bytes: of the engine.
    """

    own: bool
    seconds: float | None
    why: str
    bytes: PositiveInt


class EnginePart(Part):
    """What TensorRT did.

    Attributes:
        timed: what a call is.
        precision: of what no variant says.
        builds: name of a variant to its engine.
    """

    timed: str
    precision: str
    builds: dict[str, Build]


class Result(Part):
    """The content of ``result.json``; ONNX Runtime's part is in the open.

    Attributes:
        layout: version of it.
        kit: identity of the kit.
        model: name of the model.
        skipped: name of a variant to why it is not for this machine.
        missing: name of a variant to what it needs that is not installed or not there.
        created: when the measurement began.
        device: what it was measured on.
        before: temperature and clock at its begin.
        after: and at its end.
        tensorrt: None where it ran nothing.
        finished: whether all parts are there.
    """

    layout: Literal[1]
    kit: str
    model: str
    skipped: dict[str, str]
    missing: dict[str, str] = {}
    created: AwareDatetime
    device: Device
    before: State
    after: State
    tensorrt: EnginePart | None = None
    finished: Literal[True]

    @model_validator(mode="after")
    def _gpu_is_told(self) -> Self:
        if self.tensorrt is not None and self.device.gpu is None:
            raise ValueError("TensorRT ran, and the device has no GPU")
        return self

    @property
    def parts(self) -> dict[Runtime, Part]:
        """What ran anything."""
        found: dict[Runtime, Part] = {"onnxruntime": self} if self.variants else {}
        return found if self.tensorrt is None else found | {"tensorrt": self.tensorrt}


def is_result(path: Path) -> bool:
    """Whether a file begins as a result does; it may be damaged all the same."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return head.startswith(b'{"layout": ') and b'"kit"' in head


def read_result(path: Path) -> Result:
    """Read a result.

    Raises:
        BadInput: the file cannot be read, is damaged or was changed, or the measurement is not finished.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        whole = seal(content) == content["sha256"]
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BadInput(f"{path}: is damaged; copy it from the device again") from error
    if not whole:
        raise BadInput(f"{path}: was changed since it was measured; copy it from the device again")
    if content.get("finished") is not True:
        raise BadInput(f"{path}: is not finished; run measure.py on the device again, it goes on")
    try:
        return Result.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path}: is no result that this Octavo can read: {place}: {first['msg']}") from error
