"""Settings that say where labelled images come from."""

import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quant.errors import BadInput

__all__ = ["SourceConfig", "expand"]

_DEFAULTS = {"OCTAVO_DATA": "../shared/data"}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class SourceConfig(BaseModel):
    """One set of labelled images. Paths may contain `${VARIABLE}`, see `expand`.

    Attributes:
        kind: How the images are stored: a name registered with `register_source`.
        path: The folder (kind folder), the label file (csv) or the archive (npz).
        root: Folder that the files of a csv are relative to; by default the csv's own folder.
        classes: Kind folder: text file with one folder name per line; the line order gives the class indices.
        labels: Kind folder: class index of each folder, instead of `classes`. With neither, the sorted
            folder names count from 0.
        num_classes: Number of classes; a label at or above it is refused. Unknown when absent.
        split: Kind digits: train, calibration or validation.
        shuffle_seed: Seed of a fixed shuffle that is applied before `limit`; absent keeps the stored order.
        limit: Use only this many images, from the front.
        options: What else a kind of your own needs, see `register_source`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    path: Path | None = None
    root: Path | None = None
    classes: Path | None = None
    labels: dict[str, int] | None = None
    num_classes: int | None = Field(default=None, ge=1)
    split: str | None = None
    shuffle_seed: int | None = Field(default=None, ge=0)
    limit: int | None = Field(default=None, ge=1)
    options: dict[str, Any] = {}


def expand(path: str | Path) -> Path:
    """Replace each `${NAME}` in a path by that environment variable, and a leading `~` by the home folder.

    `OCTAVO_DATA` is `../shared/data`, relative to the working folder, where it is not set.

    Raises:
        BadInput: If another variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        found = os.environ.get(name) or _DEFAULTS.get(name)
        if found is None:
            raise BadInput(
                f"{path}: the environment variable {name} is not set; set it or write the path out"
            )
        return found

    return Path(_VARIABLE.sub(value, str(path))).expanduser()
