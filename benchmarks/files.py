"""Write a file so that a reader sees the old one or the whole new one, never half of it."""

import tempfile
from pathlib import Path

from quant.errors import BadInput

__all__ = ["write_bytes", "write_text"]


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
