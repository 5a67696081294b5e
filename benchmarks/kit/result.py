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
from benchmarks.kit.content import Answers, How
from benchmarks.kit.measure import seal
from quant.errors import BadInput

__all__ = ["Device", "OneProcess", "Result", "State", "is_result", "read_result"]

_HEAD = 64  # bytes in which a result tells what it is


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Device(_Model):
    """What was measured on, as the system tells it.

    Attributes:
        cpuinfo: of the first processor, some fields of ``/proc/cpuinfo``.
        parts: the different ``CPU part`` of all processors; an ARM big.LITTLE has several.
        board: of the device tree; empty where there is none.
        architecture: e.g. ``aarch64``.
        emulated: whether an emulator ran it, so that no time and no memory says anything.
        cores: logical CPUs that the process could run on.
        memory_gib: of the machine.
        system: operating system and kernel.
        python: version of Python.
        thread_variables: thread settings taken from environment variables.
    """

    cpuinfo: dict[str, str]
    parts: tuple[str, ...]
    board: str
    architecture: str
    emulated: bool = False
    cores: PositiveInt
    memory_gib: float
    system: str
    python: str
    thread_variables: dict[str, str]

    @property
    def name(self) -> str:
        """The processor's, the board's, or of ARM its numbers; with a word where it is emulated."""
        arm = f"implementer {self.cpuinfo.get('CPU implementer', '?')}, part {', '.join(self.parts)}"
        name = self.cpuinfo.get("model name") or self.board or (arm if self.parts else self.architecture)
        return f"{name}, emulated" if self.emulated else name


class State(_Model):
    """What may change while it is measured.

    Attributes:
        celsius: thermal zone to its temperature in °C.
        mhz: clock of the last processor that was measured on; None where it cannot be read.
        governor: of that clock; None where it cannot be read.
    """

    celsius: dict[str, float]
    mhz: float | None
    governor: str | None


class OneProcess(_Model):
    """One model in one process; times in ms."""

    load_ms: float
    first_ms: float
    warmup_ms: tuple[float, ...]
    steady_ms: tuple[float, ...] = Field(min_length=1)
    footprint: Footprint

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


class Result(_Model):
    """The content of ``result.json``.

    Attributes:
        layout: version of it.
        kit: identity of the kit.
        model: name of the model.
        variants: keys of those that were measured.
        skipped: name of a variant to why it was not.
        remarks: name of a variant to what is special about how it ran.
        created: when the measurement began.
        device: what it was measured on.
        before: temperature and clock at its begin.
        after: and at its end.
        packages: name to version.
        settings: how it was measured.
        answers: name of a variant to its logits.
        sets: in each, name of a variant to its process; those of one set lived side by side.
        errors: name of a variant to why it failed.
        finished: whether all parts are there.
    """

    layout: Literal[1]
    kit: str
    model: str
    variants: tuple[str, ...]
    skipped: dict[str, str]
    remarks: dict[str, str]
    created: AwareDatetime
    device: Device
    before: State
    after: State
    packages: dict[str, str]
    settings: Settings
    answers: dict[str, Answers]
    sets: tuple[dict[str, OneProcess], ...]
    errors: dict[str, str]
    finished: Literal[True]

    @model_validator(mode="after")
    def _even(self) -> Self:
        calls = {len(one.steady_ms) for processes in self.sets for one in processes.values()}
        if calls - {self.settings.calls}:
            raise ValueError(f"processes made {sorted(calls)} calls, not {self.settings.calls}")
        return self


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
