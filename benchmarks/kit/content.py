"""What a kit says of itself (``kit.json``), and answers as files hold them."""

import base64
import binascii
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

__all__ = ["Answers", "Entry", "How", "Kit", "Runtime"]

Runtime = Literal["onnxruntime", "tensorrt"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Model):
    """A model of a kit.

    Attributes:
        key: unique in the kit.
        name: what it is called where it is measured; the float model has a file for some machines, and one
            for all others.
        target: what it was made for.
        runtime: what runs it on the device; TensorRT does so on any machine that has a GPU.
        machines: where it is measured, as Python's ``platform.machine()`` calls them; None for everywhere.
        file: path in the kit; two entries may share one.
        source: path in the run.
        session: how it is opened, see `deploy.onnxruntime.build.settings_to`.
        exact: what `config` of that has besides on an x86 CPU without VNNI, where 8-bit products of unguarded
            weights overflow 16-bit sums: ONNX Runtime's slower kernels do not.
        engine: path in the kit of an engine that the run built of it, with its manifest beside it; used where
            it fits the device, see `deploy.tensorrt.manifest`, which else builds one of ``file``.
    """

    key: str
    name: str
    target: str
    runtime: Runtime = "onnxruntime"
    machines: tuple[str, ...] | None
    file: str
    source: str
    session: dict[str, Any]
    exact: dict[str, str] = {}
    engine: str | None = None


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
        variants: the models; of two for a runtime with one name the first that fits a machine is measured.
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
