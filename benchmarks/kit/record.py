"""What a kit says (``kit.json``), and what the run that it was packed from keeps of it."""

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator

from benchmarks.files import write_text
from quant.errors import BadInput
from quant.files import file_sha256

__all__ = [
    "Answers",
    "Entry",
    "How",
    "Kit",
    "Record",
    "check_models",
    "load_record",
    "record_path",
    "save_record",
]

_FOLDER = "kits"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Model):
    """A model of a kit.

    Attributes:
        key: unique in the kit; its folder's name.
        name: what it is called where it is measured; the float model has a file for some machines, and one
            for all others.
        target: what it was made for.
        machines: where it is measured, as Python's ``platform.machine()`` calls them; None for everywhere.
        file: path in the kit.
        source: path in the run.
        session: how it is opened, see `deploy.onnxruntime.build.settings_to`.
        exact: what `config` of that has besides on an x86 CPU without VNNI, where 8-bit products of unguarded
            weights overflow 16-bit sums: ONNX Runtime's slower kernels do not.
    """

    key: str
    name: str
    target: str
    machines: tuple[str, ...] | None
    file: str
    source: str
    session: dict[str, Any]
    exact: dict[str, str] = {}


class How(_Model):
    """How a kit is measured: the run's settings, of which a device may cut processes and calls.

    Attributes:
        processes: fresh processes per variant, at most.
        warmup: calls per process that are kept apart, after the very first one.
        calls: steady calls per process, at most.
        turn: steady calls in a row before the next variant has its turn.
        batch: samples per call.
        threads: inside one operator.
        accuracy_batch: samples per call while the answers are taken.
    """

    processes: PositiveInt
    warmup: PositiveInt
    calls: PositiveInt
    turn: PositiveInt
    batch: PositiveInt
    threads: PositiveInt
    accuracy_batch: PositiveInt


class Kit(_Model):
    """The content of ``kit.json``.

    Attributes:
        layout: version of it.
        model: name of the model.
        recipe: names of the recipes.
        task: ``classification`` or ``multilabel``.
        data: the validation set, in words.
        onnxruntime: version of it that the models ran with where they were packed; an older one may not know
            their operators.
        input: the input that takes the samples.
        reference: name of the variant that the others are compared with.
        samples: how many.
        labels: of each, class numbers.
        names: what the validation set calls each.
        variants: the models; of two with one name the first that fits a machine is measured there.
        measure: how.
        files: SHA-256 of every other file of the kit.
    """

    layout: Literal[1] = 1
    model: str
    recipe: str
    task: str
    data: str
    onnxruntime: str
    input: str
    reference: str
    samples: PositiveInt
    labels: tuple[int, ...]
    names: tuple[str, ...]
    variants: tuple[Entry, ...]
    measure: How
    files: dict[str, str]


class Answers(BaseModel):
    """Logits of the first samples of a kit.

    Attributes:
        count: how many samples N.
        outputs: logits of each, K.
        float32: [N, K], little-endian, in Base64.
    """

    model_config = ConfigDict(frozen=True)

    count: PositiveInt
    outputs: PositiveInt
    float32: str

    @classmethod
    def of(cls, logits: NDArray[np.floating]) -> Self:
        """Of logits [N, K]."""
        content = np.ascontiguousarray(logits, dtype="<f4").tobytes()
        return cls(count=logits.shape[0], outputs=logits.shape[1], float32=base64.b64encode(content).decode())

    @model_validator(mode="after")
    def _whole(self) -> Self:
        try:
            content = base64.b64decode(self.float32, validate=True)
        except binascii.Error as error:
            raise ValueError(f"is not Base64: {error}") from error
        if len(content) != 4 * self.count * self.outputs:
            raise ValueError(f"has {len(content)} bytes, not those of [{self.count}, {self.outputs}]")
        return self

    @property
    def logits(self) -> NDArray[np.float32]:
        """[N, K], float32."""
        content = base64.b64decode(self.float32)
        return np.frombuffer(content, dtype="<f4").reshape(self.count, self.outputs).astype(np.float32)


class Record(_Model):
    """What a run keeps of a kit that was packed from it.

    Attributes:
        kit: the text of ``kit.json``.
        answers: key of a variant to what the machine that packed it answers to the samples.
    """

    kit: str
    answers: dict[str, Answers]

    @property
    def identity(self) -> str:
        """SHA-256 of ``kit.json``, and so of every file of the kit."""
        return hashlib.sha256(self.kit.encode()).hexdigest()

    @property
    def about(self) -> Kit:
        """What the kit says."""
        return Kit.model_validate_json(self.kit)


def record_path(run: Path, identity: str) -> Path:
    """Where a run keeps the record of a kit."""
    return run / _FOLDER / f"{identity[:16]}.json"


def save_record(run: Path, record: Record) -> None:
    """Keep a record in a run's folder.

    Raises:
        BadInput: it cannot be written.
    """
    path = record_path(run, record.identity)
    path.parent.mkdir(exist_ok=True)
    write_text(path, record.model_dump_json(indent=1) + "\n")


def load_record(run: Path, identity: str) -> Record:
    """The record of a kit.

    Raises:
        BadInput: the file cannot be read, or is not what was written.
    """
    path = record_path(run, identity)
    try:
        record = Record.model_validate_json(path.read_bytes())
        _ = record.about
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise BadInput(f"{path}: is damaged; pack the kit again with `octavo kit {run}`") from error
    if record.identity != identity:
        raise BadInput(f"{path}: was changed; pack the kit again with `octavo kit {run}`")
    return record


def check_models(run: Path, kit: Kit) -> None:
    """Refuse a run whose models are no longer those of the kit.

    Raises:
        BadInput: a file was made again since, or is gone.
    """
    for entry in kit.variants:
        inside = Path(entry.file).parent
        for name, sha256 in kit.files.items():
            if inside not in Path(name).parents:
                continue
            path = run / Path(entry.source).parent / Path(name).relative_to(inside)
            if not path.is_file() or file_sha256(path) != sha256:
                raise BadInput(
                    f"{path}: is not the file that the kit has: the run was changed since; pack "
                    f"it again with `octavo kit {run}`, and measure that"
                )
