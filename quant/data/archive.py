"""Reading a NumPy archive that holds samples and labels."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import BadInput

__all__ = ["read_archive"]


def read_archive(path: Path, samples: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the samples [N, ...] and the integer labels [N] of an .npz archive.

    Args:
        path: The archive.
        samples: The name of the array that holds the samples.

    Raises:
        BadInput: If the archive is damaged, lacks an array or is empty, labels are no integers [N], or the
            two are not equally long. The type and the shape of the samples are not looked at.
    """
    if not zipfile.is_zipfile(path):
        raise BadInput(
            f"{path}: is not a whole .npz archive; save it with numpy.savez({samples}=..., labels=...)"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in (samples, "labels") if name not in archive]
            if missing:
                found = ", ".join(archive) or "none"
                raise BadInput(f"{path}: has no array {' and no array '.join(missing)}; found {found}")
            values, labels = archive[samples], archive["labels"]
    except BadInput:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read as an .npz without pickled objects ({error})") from error
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise BadInput(
            f"{path}: labels has dtype {labels.dtype} and shape {list(labels.shape)}; integers [N] are needed"
        )
    if values.ndim == 0 or len(values) != len(labels):
        count = len(values) if values.ndim else "no list of"
        raise BadInput(f"{path}: has {count} {samples} but {len(labels)} labels")
    if values.size == 0:
        raise BadInput(f"{path}: has no {samples}")
    return values, labels
