"""Files: written so that a reader sees the old one or the whole new one, and told apart by their bytes."""

import hashlib
import os
from pathlib import Path

__all__ = ["file_sha256", "replace_bytes"]


def replace_bytes(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename over it.

    Raises:
        OSError: it cannot be written; an older file is left as it was.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
