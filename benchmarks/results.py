"""The one file a run leaves behind: ``summary.json``, everything a report is drawn from."""

from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, NonNegativeInt, ValidationError, model_validator

from benchmarks.accuracy import Accuracy
from benchmarks.energy import Energy
from benchmarks.environment import Environment
from benchmarks.files import write_text
from benchmarks.latency import Latency, Noise
from benchmarks.load import LoadResult
from benchmarks.memory import Memory
from quant.errors import BadInput

__all__ = ["SCHEMA_VERSION", "Summary", "Variant", "load_summary", "save_summary"]

SCHEMA_VERSION: Literal[2] = 2


class Variant(BaseModel):
    """One model file and all that is known about it.

    Attributes:
        name: unique in the summary, e.g. ``fp32``, ``int8-ort-x86``.
        target: what it was made for, e.g. ``ort-x86``.
        backend: what ran it here, e.g. ``onnxruntime``.
        file: path relative to the summary; that of a run's configuration for a model inside PyTorch.
        sha256: of the file; ``None`` inside PyTorch, and in summaries from before it was kept.
        size_bytes: size of the file, external weights included; of a model inside PyTorch, of its parameters.
        size_ratio: size of the reference / size of this one, above 1 when this one is smaller.
        accuracy: ``None`` when it was not run here.
        latency: one per batch size and thread count; ``None`` when it was not timed here.
        memory: ``None`` when it was not measured here.
        load: what it did under load; ``None`` when that was not asked for or cannot be told here.
        energy: ``None`` where the model of energy does not know the variant's formats.
        audit: what the runtime really executes, as ``AuditReport.to_dict()`` gives it.
        parity: agreement between the stages of the pipeline: stage to its figures, or figures alone.
        note: a remark for the reader, e.g. ``exported and checked; not run here``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str = Field(min_length=1)
    target: str
    backend: str = "onnxruntime"
    file: str
    sha256: str | None = None
    size_bytes: NonNegativeInt
    size_ratio: float | None = None
    accuracy: Accuracy | None = None
    latency: tuple[Latency, ...] | None = None
    memory: Memory | None = None
    load: tuple[LoadResult, ...] | None = None
    energy: Energy | None = None
    audit: dict[str, JsonValue] | None = None
    parity: dict[str, JsonValue] | None = None
    note: str | None = None


class Summary(BaseModel):
    """Everything measured in one run.

    Attributes:
        schema_version: version of this layout.
        created: when, in UTC.
        command: the command that computes it again.
        model: name of the model.
        recipe: name of the recipe.
        data: the images accuracy was measured on, in words.
        preprocessing: what images go through, the model's own.
        reference: name of the variant the others are compared with.
        environment: where it was measured.
        settings: every setting of the run, as given.
        variants: the reference first, by custom.
        noise: how far the reference was from itself while the variants were timed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    schema_version: Literal[2] = SCHEMA_VERSION
    created: datetime
    command: str
    model: str
    recipe: str
    data: str
    preprocessing: dict[str, JsonValue] = {}
    reference: str = "fp32"
    environment: Environment
    settings: dict[str, JsonValue] = {}
    variants: tuple[Variant, ...] = Field(min_length=1)
    noise: tuple[Noise, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"variant names must differ, got {', '.join(names)}")
        if self.reference not in names:
            raise ValueError(f"the reference {self.reference!r} is not among {', '.join(names)}")
        if len({v.accuracy.n for v in self.variants if v.accuracy is not None}) > 1:
            raise ValueError("all variants must be judged on the same images, but their counts differ")
        if self.created.utcoffset() is None:
            raise ValueError("`created` must carry a time zone; use UTC")
        return self

    @property
    def base(self) -> Variant:
        """The variant the others are compared with."""
        return next(v for v in self.variants if v.name == self.reference)

    def noise_at(self, batch: int, threads: int) -> Noise | None:
        """The noise of one configuration; None where it was not measured."""
        return next((n for n in self.noise if (n.batch, n.threads) == (batch, threads)), None)

    @property
    def others(self) -> tuple[Variant, ...]:
        """All variants but the reference, in order."""
        return tuple(v for v in self.variants if v.name != self.reference)


def save_summary(summary: Summary, path: Path) -> None:
    """Write the summary as JSON; a reader sees the old file or the whole new one, never half of it.

    Raises:
        BadInput: the folder does not exist or cannot be written.
    """
    write_text(path, summary.model_dump_json(indent=2) + "\n")


def load_summary(path: Path) -> Summary:
    """Read a summary back.

    Raises:
        BadInput: the file cannot be read, is not JSON, or does not have this layout; the message names the
            first places that are wrong.
    """
    try:
        return Summary.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; run `octavo bench` first") from error
    except ValidationError as error:
        places = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:3]]
        raise BadInput(
            f"{path} is not a summary this version of Octavo can read (layout {SCHEMA_VERSION}): "
            + "; ".join(places)
        ) from error
