"""Files that a reader sees whole, in their old or their new state, never half of them."""

import math
import tempfile
from pathlib import Path
from typing import Any

from quant.errors import BadInput

__all__ = ["plain_json", "write_bytes", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write beside ``path``, then rename over it.

    Raises:
        BadInput: the folder does not exist or cannot be written; an older file is left as it was.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside ``path``, then rename over it.

    Raises:
        BadInput: the folder does not exist or cannot be written; an older file is left as it was.
    """
    beside: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "wb", dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as file:
            beside = Path(file.name)
            file.write(data)
        beside.chmod(0o644)
        beside.replace(path)
    except OSError as error:
        if beside is not None:
            beside.unlink(missing_ok=True)
        raise BadInput(f"cannot write {path}: {error.strerror}") from error


def plain_json(value: Any) -> Any:
    """The value without infinities, which JSON does not know; they become the strings of a run's summary."""
    if isinstance(value, dict):
        return {key: plain_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
