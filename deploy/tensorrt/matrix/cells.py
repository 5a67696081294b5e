"""From a matrix to its cells: which model becomes which engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.pipeline.line import Line, open_run
from deploy.tensorrt.build import EngineSettings
from deploy.tensorrt.matrix.config import Exclude, MatrixConfig
from deploy.tensorrt.runs import measured_of, variants
from quant.errors import BadInput
from quant.recipe import near

__all__ = ["ONNX", "Cell", "cells_of"]

ONNX = "onnx"
"""The variant of a model that is an ONNX file."""


@dataclass(frozen=True)
class Cell:
    """One engine to build.

    Attributes:
        model: its name in the matrix.
        variant: of the model.
        profile: its name in the matrix.
        source: the ONNX file.
        origin: what that file is called in lists: the model's name and the path inside it.
        settings: of the engine.
        measured: what the run knows of the model; None of an ONNX file.
    """

    model: str
    variant: str
    profile: str
    source: Path
    origin: str
    settings: EngineSettings
    measured: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """``model/variant/profile``, which is also its folder."""
        return f"{self.model}/{self.variant}/{self.profile}"


def cells_of(config: MatrixConfig) -> tuple[Cell, ...]:
    """The cells in the order of the file.

    Raises:
        BadInput: a model is neither a run nor an ONNX file, a run lacks a variant, what is to be left out is
            not there, or nothing is left.
    """
    cells, matched = [], set()
    for model, place in config.models.items():
        line, available = _variants(model, place)
        wanted = available if config.variants is None or line is None else config.variants
        for variant in wanted:
            for profile, described in config.profiles.items():
                excluding = [rule for rule in config.exclude if rule.matches(model, variant, profile)]
                matched.update(excluding)
                if excluding:
                    continue
                file = _file(model, place, variant, available)
                origin = f"{model}/{file.name if file == place else file.relative_to(place).as_posix()}"
                measured = None if line is None else measured_of(line, file.relative_to(place).as_posix())
                cells.append(Cell(model, variant, profile, file, origin, described.settings, measured))
    for rule in config.exclude:
        if rule not in matched:
            raise BadInput(
                f"exclude: no cell has {_words(rule)}; models: {', '.join(config.models)}; "
                f"profiles: {', '.join(config.profiles)}"
            )
    if not cells:
        raise BadInput("exclude: leaves no cell of the matrix")
    return tuple(cells)


def _variants(model: str, place: Path) -> tuple[Line | None, Mapping[str, Path]]:
    """The run, if it is one, and names of the variants to their files, which need not be there."""
    if _is_file(place):
        return None, {ONNX: place}
    try:
        line = open_run(place)
        return line, {name: place / file for name, file in variants(line).items()}
    except BadInput as error:
        raise BadInput(f"models.{model}: {error}") from error


def _is_file(place: Path) -> bool:
    """Whether it is, or is meant to be, an ONNX file and not the folder of a run."""
    return place.suffix == ".onnx" or place.is_file()


def _file(model: str, place: Path, variant: str, available: Mapping[str, Path]) -> Path:
    if variant not in available:
        raise BadInput(
            f"models.{model}: {place} has no variant '{variant}'{near(variant, available)}; it has "
            f"{', '.join(available)}"
        )
    file = available[variant]
    if not file.is_file():
        missing = "no such file" if file == place else "does not exist; `octavo lower` writes it"
        raise BadInput(f"models.{model}: {file}: {missing}")
    return file


def _words(rule: Exclude) -> str:
    return ", ".join(f"{key} '{value}'" for key, value in rule.model_dump(exclude_none=True).items())
