"""The configuration of a run, read from YAML."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from deploy.onnxruntime.providers import CPU, full_names
from export.settings import ExportSettings
from export.targets import get_target
from quant.data.config import SourceConfig
from quant.errors import BadInput
from quant.models.config import ModelConfig
from quant.recipe import parse, shipped_recipes

__all__ = [
    "AnalysisConfig",
    "BenchConfig",
    "LoadConfig",
    "ProfileConfig",
    "RunConfig",
    "config_of",
    "copied_config",
    "is_relative",
    "load_config",
    "moved_config",
    "read_yaml",
]


class LoadConfig(BaseModel):
    """Load on each variant, made by MLPerf's LoadGen.

    Attributes:
        utilization: rates of random arrivals, as shares of what the float model can do one image at a time.
        seconds: how long each load lasts, at least; until 500 images were answered in any case.
        batch: images per call of the offline scenario.
        latency_ms: what 99 % of the arriving images must keep; ten times the float model's median when left
            out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    utilization: tuple[Annotated[float, Field(gt=0, le=2)], ...] = (0.5, 0.8)
    seconds: PositiveFloat = 10.0
    batch: PositiveInt = 8
    latency_ms: PositiveFloat | None = None


class BenchConfig(BaseModel):
    """What is measured and how.

    Attributes:
        processes: fresh processes per variant; intervals come from the differences between them.
        warmup: calls per process that are not counted.
        calls: counted calls per process.
        turn: so many of them in a row, then the next variant has its turn.
        batch_sizes: images per call, each timed on its own.
        threads: threads inside one operator, each timed on its own.
        cpus: the processors that measuring processes may use, one per thread from the end of the list.
        providers: ONNX Runtime's execution providers, in order of preference; see
            :data:`deploy.onnxruntime.providers.PROVIDERS`.
        other_targets: also judge the accuracy of variants for targets that are not this machine.
        pytorch: also measure the model in PyTorch, in float and with each recipe's fake-quant layers.
        load: put load on the variants, too; needs the extra ``loadgen``.
        accuracy_batch: images per call while accuracy is measured.
        recorded_top1: top-1 in % that is known of the float model on the validation images, or on the set
            they are a sample of; measuring stops where that cannot be, naming the mistake that explains it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int = Field(default=10, ge=2)
    warmup: PositiveInt = 5
    calls: PositiveInt = 20
    turn: PositiveInt = 5
    batch_sizes: tuple[PositiveInt, ...] = Field(default=(1,), min_length=1)
    threads: tuple[PositiveInt, ...] = Field(default=(1,), min_length=1)
    cpus: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1)
    providers: tuple[str, ...] = Field(default=(CPU,), min_length=1)
    other_targets: bool = True
    pytorch: bool = False
    load: LoadConfig | None = None
    accuracy_batch: PositiveInt = 16
    recorded_top1: float | None = Field(default=None, gt=0, le=100)

    @field_validator("providers")
    @classmethod
    def _full_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return full_names(value)


class ProfileConfig(BaseModel):
    """What `octavo profile` says, as a part of the run; see there.

    Attributes:
        recipes: those whose variants are profiled; all when left out.
        target: the target whose number formats are used; the first when left out.
        images: how many validation images.
        sensitivity: metrics that each layer is measured with, too.
        bits: the widths of that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipes: tuple[str, ...] | None = None
    target: str | None = None
    images: PositiveInt = 64
    sensitivity: tuple[str, ...] = ()
    bits: tuple[PositiveInt, ...] = Field(default=(4, 6, 8), min_length=1)


class AnalysisConfig(BaseModel):
    """One analysis by name; every other key is an option of that analysis.

    Attributes:
        name: one that is registered, see :mod:`benchmarks.analyses`.
        label: what its folder is called; the name when left out.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    label: str = Field(default="", pattern=r"^[a-z0-9_]*$")

    @property
    def folder(self) -> str:
        """What its folder is called."""
        return self.label or self.name

    @property
    def options(self) -> dict[str, Any]:
        """The analysis' own keys."""
        return dict(self.model_extra or {})


class RunConfig(BaseModel):
    """Everything a run is made from.

    Attributes:
        model: the trained model.
        calibration: the images that ranges are learned from; their labels are not used.
        validation: the images that accuracy is measured on.
        recipe: one or several recipes: the name of a shipped one, or the path of a YAML file. Each makes a
            variant ``<recipe>-<target>`` for each target.
        targets: keys of :data:`export.targets.TARGETS`.
        export: how ONNX files are written.
        saturation_guard: protection of integer sums on CPUs without VNNI, see
            :meth:`export.targets.Target.encoding`.
        bench: what is measured.
        calibration_batch: images per forward pass of the calibration.
        seed: of random weights, where the model names no trained ones.
        task: what the outputs [N, K] mean: scores of K classes, or K answers of yes (above 0) and no, whose
            label is the integer with bit i set where answer i is yes.
        code: a folder with modules of yours: factories of models, plug-ins.
        plugins: modules that are imported first, so that what they register can be named here: kinds of image
            sources, observers, methods, analyses.
        profile: also profile variants.
        analyses: what else is made of the results, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelConfig
    calibration: SourceConfig
    validation: SourceConfig
    recipe: tuple[str, ...] = Field(default=("int8",), min_length=1)
    targets: tuple[str, ...] = Field(default=("ort-x86",), min_length=1)
    export: ExportSettings = ExportSettings()
    saturation_guard: Literal["auto", "on", "off", "seven_bits"] = "auto"
    bench: BenchConfig = BenchConfig()
    calibration_batch: PositiveInt = 16
    seed: int = Field(default=0, ge=0)
    task: Literal["classification", "multilabel"] = "classification"
    code: Path | None = None
    plugins: tuple[str, ...] = ()
    profile: ProfileConfig | None = None
    analyses: tuple[AnalysisConfig, ...] = ()

    @field_validator("analyses")
    @classmethod
    def _own_folders(cls, value: tuple[AnalysisConfig, ...]) -> tuple[AnalysisConfig, ...]:
        folders = [entry.folder for entry in value]
        if len(set(folders)) != len(folders):
            raise ValueError(f"each needs a `label` of its own, got {', '.join(folders)}")
        return value

    @field_validator("recipe", "targets", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("targets")
    @classmethod
    def _known_targets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            get_target(name)
        if len(set(value)) != len(value):
            raise ValueError("a target is named twice")
        return value


_SECTIONS: Mapping[str, type[BaseModel]] = {
    "model": ModelConfig,
    "calibration": SourceConfig,
    "validation": SourceConfig,
    "export": ExportSettings,
    "bench": BenchConfig,
    "profile": ProfileConfig,
}


def load_config(path: Path) -> RunConfig:
    """Read a configuration.

    Relative paths in it are relative to the file's own folder. Paths that begin with ``${VARIABLE}`` or ``~``
    are kept as they are.

    Raises:
        BadInput: the file cannot be read, or has an unknown key or a wrong value; one line names it.
    """
    return config_of(read_yaml(path, RunConfig), path)


def config_of(data: Mapping[str, Any], path: Path) -> RunConfig:
    """The configuration that a file, or a part of it, holds, as :func:`load_config` gives it."""
    return _with_paths(_parsed(data, path), lambda p: path.parent / p)


def copied_config(path: Path, folder: Path) -> str:
    """The configuration as YAML that means the same when it lies in ``folder``.

    Raises:
        BadInput: as :func:`load_config`.
    """
    return moved_config(read_yaml(path, RunConfig), path, folder)


def moved_config(data: Mapping[str, Any], path: Path, folder: Path) -> str:
    """What a file, or a part of it, holds, as YAML that means the same when it lies in ``folder``."""
    here, there = path.parent.resolve(), folder.resolve()
    moved = _with_paths(_parsed(data, path), lambda p: Path(os.path.relpath(here / p, there)))
    return yaml.safe_dump(moved.model_dump(mode="json", exclude_none=True), sort_keys=False)


def read_yaml(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    """A file that is to hold the keys of a model.

    Raises:
        BadInput: it cannot be read, or holds something else.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path}: must be a mapping with the keys {', '.join(model.model_fields)}")
    return data


def is_relative(path: Path) -> bool:
    """Whether a path in a configuration is relative to the configuration's folder."""
    return not path.is_absolute() and not str(path).startswith(("$", "~"))


def _parsed(data: Mapping[str, Any], path: Path) -> RunConfig:
    data = dict(data)
    for name, section in _SECTIONS.items():  # one by one, so that a message can list the keys of the section
        if isinstance(data.get(name), dict):
            data[name] = parse(section, data[name], f"{path}, {name}")
    return parse(RunConfig, data, str(path))


def _with_paths(config: RunConfig, move: Callable[[Path], Path]) -> RunConfig:
    """Apply ``move`` to every path that is relative to a folder."""

    def moved(path: Path | None) -> Path | None:
        return move(path) if path is not None and is_relative(path) else path

    def source(old: SourceConfig) -> SourceConfig:
        paths = {name: moved(getattr(old, name)) for name in ("path", "root", "classes")}
        return old.model_copy(update=paths)

    shipped = shipped_recipes()
    changes = {
        "model": config.model.model_copy(update={"weights": moved(config.model.weights)}),
        "calibration": source(config.calibration),
        "validation": source(config.validation),
        "code": moved(config.code),
        "recipe": tuple(r if r in shipped else str(moved(Path(r))) for r in config.recipe),
    }
    return config.model_copy(update=changes)
