"""The images of a run: what identifies a set of them, and a few of them spread over the whole set."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from quant.calibrate import Batches
from quant.data.batches import batches
from quant.data.config import SourceConfig, expand
from quant.data.preparation import Preparation
from quant.data.sources import ImageSource, Sample

__all__ = ["Spread", "calibration_batches", "describe_source", "source_identity"]


class Spread:
    """``count`` images evenly spaced over a source, in its order: sources are often sorted by class."""

    def __init__(self, source: ImageSource, count: int) -> None:
        count = min(count, len(source))
        self._source = source
        self._indices = [i * len(source) // count for i in range(count)]
        self.num_classes = source.num_classes
        self.labels: Sequence[int] = [source.labels[i] for i in self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[Sample, int]:
        return self._source[self._indices[index]]

    def name(self, index: int) -> str:
        """Return what the source calls the image."""
        return self._source.name(self._indices[index])


def calibration_batches(source: ImageSource, preprocessing: Preparation, batch_size: int) -> Batches:
    """The images in batches [B, C, H, W], as :func:`quant.calibrate.calibrate` asks for them."""

    def give(count: int | None) -> Iterable[Tensor]:
        wanted = source if count is None or count >= len(source) else Spread(source, count)
        return (batch.images for batch in batches(wanted, preprocessing, batch_size))

    return give


def source_identity(config: SourceConfig, source: ImageSource) -> Any:
    """What changes when a set of images changes: settings, names, labels, sizes and times of the files."""
    names = [source.name(i) for i in range(len(source))]
    path = None if config.path is None else expand(config.path)
    root = expand(config.root) if config.root is not None else path
    if root is not None and root.is_file():
        root = root.parent
    files = [] if root is None else [_size_and_time(root / name) for name in names]
    return {
        "settings": config.model_dump(mode="json", exclude={"path", "root", "classes"}),
        "container": None if path is None or path.is_dir() else _size_and_time(path),
        "images": list(zip(names, source.labels, files or [None] * len(names), strict=True)),
    }


def describe_source(config: SourceConfig, source: ImageSource) -> str:
    """A set of images in words: ``360 images (digits, validation)``."""
    place = config.split or (str(config.path) if config.path is not None else "")
    return f"{len(source)} images ({config.kind}{', ' if place else ''}{place})"


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
