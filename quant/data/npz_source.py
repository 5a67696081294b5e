"""Images and labels stored as arrays in one NumPy archive."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from quant.data.archive import read_archive
from quant.data.config import SourceConfig
from quant.data.sources import check_label, register_source, required_path
from quant.errors import BadInput

__all__ = ["NpzSource"]


@register_source("npz")
class NpzSource:
    """The arrays `images`, uint8 [N, H, W, 3] (RGB) or [N, H, W] (grey), and `labels`, integers [N].

    Raises:
        BadInput: If the archive is damaged, lacks an array, or one has a wrong type, shape or label.
    """

    def __init__(self, config: SourceConfig) -> None:
        self._path = required_path(config)
        self._images, labels = _read_images(self._path)
        self.num_classes = config.num_classes
        self.labels = [
            check_label(int(label), f"{self._path} row {row}", self.num_classes)
            for row, label in enumerate(labels)
        ]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self._images[index]).convert("RGB"), self.labels[index]

    def name(self, index: int) -> str:
        """Return the archive's name and the row, which counts from 0."""
        return f"{self._path.name}[{index}]"


def _read_images(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    images, labels = read_archive(path, "images")
    if images.dtype != np.uint8:
        raise BadInput(f"{path}: images has dtype {images.dtype}; uint8 is needed")
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise BadInput(f"{path}: images has shape {list(images.shape)}; [N, H, W, 3] or [N, H, W] is needed")
    return images, labels
