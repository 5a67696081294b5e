"""Write files so that a reader sees the old one or the whole new one, never half of it."""

import os
from pathlib import Path

__all__ = ["replace_bytes"]


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
