"""What a matrix of engines is built from, read from YAML."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from deploy.pipeline.config import is_relative, read_yaml
from deploy.tensorrt.build import EngineSettings, engine_settings
from quant.data.config import expand
from quant.recipe import parse

__all__ = ["LISTS", "Exclude", "MatrixConfig", "Profile", "is_folder_name", "load_matrix"]

LISTS = ("SHA256SUMS", "sbom.cdx.json", "junit.xml", "summary.md", "summary.json")
"""The files beside the folders of models: checksums, bill of materials, and what became of the cells."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def is_folder_name(name: str) -> bool:
    """Whether a folder may be called so on every system, and inside a list of checksums."""
    return _NAME.fullmatch(name) is not None


def _folder_name(name: str) -> str:
    if not is_folder_name(name):
        raise ValueError(
            f"'{name}' becomes a folder: at most 100 letters, digits, '_', '.', '-', a letter or digit first"
        )
    return name


def _model_name(name: str) -> str:
    if name in LISTS:
        raise ValueError(f"'{name}' is a file of the build; name the model otherwise")
    return _folder_name(name)


Name = Annotated[str, AfterValidator(_folder_name)]


class Profile(BaseModel):
    """How an engine is built: the settings of :class:`deploy.tensorrt.build.EngineSettings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batches: tuple[int, int, int] = EngineSettings.batches
    optimization_level: int | None = None
    workspace_mib: int | None = None
    compute: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: bool = False
    refit: bool = False
    weight_streaming: bool = False

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        _ = self.settings
        return self

    @property
    def settings(self) -> EngineSettings:
        """For the builder."""
        return engine_settings(self.model_dump())


class Exclude(BaseModel):
    """Cells to leave out: those that match every key that is given.

    Attributes:
        model: a name of the matrix.
        variant: such as ``fp16``.
        profile: a name of the matrix.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    variant: str | None = None
    profile: str | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError(
                "name a model, a variant or a profile; without any, everything would be left out"
            )
        return self

    def matches(self, model: str, variant: str, profile: str) -> bool:
        """Whether the cell is left out."""
        pairs = ((self.model, model), (self.variant, variant), (self.profile, profile))
        return all(wanted is None or wanted == given for wanted, given in pairs)


class MatrixConfig(BaseModel):
    """A matrix of engines.

    Attributes:
        library: key of :data:`deploy.tensorrt.library.LIBRARIES`; the first that is installed where left out.
        models: folders of runs, or ONNX files, by names of the matrix's choosing.
        variants: of the runs; all that can become engines where left out.
        profiles: settings of engines by names of the matrix's choosing.
        exclude: cells to leave out.
        timeout_s: the longest that building one engine may take, in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: str | None = None
    models: dict[Annotated[str, AfterValidator(_model_name)], Path] = Field(min_length=1)
    variants: tuple[str, ...] | None = Field(default=None, min_length=1)
    profiles: dict[Name, Profile] = Field(default={"default": Profile()}, min_length=1)
    exclude: tuple[Exclude, ...] = ()
    timeout_s: float | None = Field(default=None, gt=0, le=7 * 86_400)

    @model_validator(mode="before")
    @classmethod
    def _bare_profiles(cls, data: Any) -> Any:
        """``single:`` with nothing behind it is a profile of defaults."""
        profiles = data.get("profiles") if isinstance(data, dict) else None
        if isinstance(profiles, dict):
            return {
                **data,
                "profiles": {name: {} if value is None else value for name, value in profiles.items()},
            }
        return data

    @model_validator(mode="after")
    def _once(self) -> Self:
        if self.variants is not None and len(set(self.variants)) != len(self.variants):
            raise ValueError("a variant is named twice")
        return self


def load_matrix(path: Path) -> MatrixConfig:
    """Read a matrix. Relative paths in it are relative to the file's own folder.

    Raises:
        BadInput: the file cannot be read, or has an unknown key or a wrong value; one line names it.
    """
    config = parse(MatrixConfig, read_yaml(path, MatrixConfig), str(path))
    places = {
        name: (path.parent if is_relative(given) else Path()) / expand(given)
        for name, given in config.models.items()
    }
    return config.model_copy(update={"models": places})
