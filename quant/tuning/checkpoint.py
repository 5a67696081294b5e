"""Keep the state of a long training, so that one that was interrupted goes on where it was."""

import hashlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.files import replace_bytes

__all__ = ["Checkpoint", "identity"]


class Checkpoint:
    """One file, or none: then nothing is kept.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def load(self, key: str) -> dict[str, Any] | None:
        """What :meth:`save` kept under the same key, on the CPU; None where nothing readable is."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # whatever a damaged file raises: training starts anew
            return None
        return kept["state"] if isinstance(kept, dict) and kept.get("key") == key else None

    def save(self, key: str, state: dict[str, Any]) -> None:
        """Replace what was kept.

        Args:
            key: see :func:`identity`.
            state: tensors, numbers and texts in dictionaries and lists.

        Raises:
            OSError: it cannot be written.
        """
        if self.path is None:
            return
        content = BytesIO()
        torch.save({"key": key, "state": state}, content)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(self.path, content.getvalue())

    def clear(self) -> None:
        """Keep nothing any longer."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def identity(settings: str, tensors: Iterable[Tensor]) -> str:
    """SHA-256 of everything a training depends on.

    Args:
        settings: all options and the seed.
        tensors: what it starts from, and its images.
    """
    found = hashlib.sha256(f"{torch.__version__} {settings}".encode())
    for tensor in tensors:
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
