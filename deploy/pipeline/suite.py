"""Several runs in one file: ``runs``, and ``shared`` keys that each of them has."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from deploy.pipeline.config import read_yaml
from quant.errors import BadInput
from quant.recipe import near, parse
from quant.recipe_file import merged

__all__ = ["is_suite", "suite_of"]

_RUNS = "runs"


class _Suite(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: dict[str, dict[str, Any]] = Field(min_length=1)
    shared: dict[str, Any] = {}

    @field_validator("runs")
    @classmethod
    def _names(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in value:
            if not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"a run is called {name!r}; allowed: letters, digits, '_' and '-'")
        return value


def is_suite(data: Mapping[str, Any]) -> bool:
    """Whether a configuration as read from YAML is one of several runs."""
    return _RUNS in data


def suite_of(path: Path, only: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """The configurations of a suite by name, as values; paths in them are relative to the file's folder.

    What a run says is merged into what all share: mappings are merged, ``null`` takes a key away, all else
    replaces.

    Args:
        path: the file.
        only: names of the runs that are wanted; all when empty.

    Raises:
        BadInput: the file is no suite, or has no such run.
    """
    suite = parse(_Suite, read_yaml(path, _Suite), str(path))
    wanted = list(only) or list(suite.runs)
    for name in wanted:
        if name not in suite.runs:
            raise BadInput(
                f"{path}: has no run '{name}'{near(name, suite.runs)}; it has {', '.join(suite.runs)}"
            )
    return {name: merged(suite.shared, suite.runs[name]) for name in suite.runs if name in wanted}
