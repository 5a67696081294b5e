"""What a set of labelled images looks like to the rest of Octavo, and how one is opened."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from quant.data.config import SourceConfig, expand
from quant.errors import BadInput

__all__ = [
    "ImageSource",
    "Sample",
    "check_label",
    "class_names",
    "open_source",
    "register_source",
    "required_path",
]


Sample = Image.Image | npt.NDArray[np.float32]
"""An image, or an array for a model that takes no images."""


class ImageSource(Protocol):
    """A finite, ordered set of labelled images; each image is decoded when it is asked for.

    For a model that takes no images, its samples are arrays, see `quant.data.tensor_input`.
    """

    @property
    def num_classes(self) -> int | None:
        """Number of classes, where the source knows it."""

    @property
    def labels(self) -> Sequence[int]:
        """Class index of every image, in order, without decoding anything."""

    def __len__(self) -> int:
        """Return the number of images, at least 1."""

    def __getitem__(self, index: int) -> tuple[Sample, int]:
        """Decode image `index` as 8-bit RGB and return it with its class index.

        Raises:
            BadInput: If the image cannot be decoded.
        """

    def name(self, index: int) -> str:
        """Return what to call image `index` in reports and messages."""


Opener = Callable[[SourceConfig], ImageSource]
OpenerT = TypeVar("OpenerT", bound=Opener)

_OPENERS: dict[str, Opener] = {}
_WITH_OPTIONS: set[str] = set()


def register_source(kind: str, options: bool = False) -> Callable[[OpenerT], OpenerT]:
    """Make the decorated opener the one for `SourceConfig.kind == kind`.

    Args:
        kind: Its name in settings.
        options: Whether it reads `SourceConfig.options`, which are refused otherwise.
    """

    def register(opener: OpenerT) -> OpenerT:
        _OPENERS[kind] = opener
        if options:
            _WITH_OPTIONS.add(kind)
        return opener

    return register


def open_source(config: SourceConfig, num_classes: int | None = None) -> ImageSource:
    """Open a set of labelled images; labels and files are checked now, image contents when they are read.

    Args:
        config: Where the images are.
        num_classes: Number of classes of the model they are meant for, where `config` does not say.

    Raises:
        BadInput: If the kind is unknown, a path is missing, a label is wrong or the set is empty.
    """
    opener = _OPENERS.get(config.kind)
    if opener is None:
        raise BadInput(
            f"unknown kind of image source {config.kind!r}; allowed: {', '.join(sorted(_OPENERS))}"
        )
    if config.options and config.kind not in _WITH_OPTIONS:
        raise BadInput(f"kind {config.kind} has no options; given: {', '.join(config.options)}")
    if config.num_classes is None and num_classes is not None:
        config = config.model_copy(update={"num_classes": num_classes})
    source = opener(config)
    if config.shuffle_seed is None and (config.limit is None or config.limit >= len(source)):
        return source
    order = np.arange(len(source))
    if config.shuffle_seed is not None:
        order = np.random.default_rng(config.shuffle_seed).permutation(len(source))
    return _Selection(source, [int(i) for i in order[: config.limit]])


class _Selection:
    """Some images of another source, in a given order."""

    def __init__(self, source: ImageSource, indices: Sequence[int]) -> None:
        self._source = source
        self._indices = indices
        self.num_classes = source.num_classes
        self.class_names = class_names(source)
        self.labels: Sequence[int] = [source.labels[i] for i in indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[Sample, int]:
        return self._source[self._indices[index]]

    def name(self, index: int) -> str:
        return self._source.name(self._indices[index])


def class_names(source: ImageSource) -> Mapping[int, str]:
    """Return the names of classes by their index, as far as the source has any: its `class_names`."""
    found: Mapping[int, str] = getattr(source, "class_names", {})
    return found


def required_path(config: SourceConfig) -> Path:
    """Return the expanded `path` of a source that cannot do without one.

    Raises:
        BadInput: If it is absent from the settings or from the disk.
    """
    if config.path is None:
        raise BadInput(f"an image source of kind {config.kind!r} needs a path")
    path = expand(config.path)
    if not path.exists():
        raise BadInput(f"{path}: does not exist (path of an image source of kind {config.kind!r})")
    return path


def check_label(label: int, where: str, num_classes: int | None) -> int:
    """Return `label` if it is a class index.

    Raises:
        BadInput: If it is negative, or not below `num_classes` where that is known.
    """
    if label < 0:
        raise BadInput(f"{where}: label {label} is negative; class indices count from 0")
    if num_classes is not None and label >= num_classes:
        raise BadInput(
            f"{where}: label {label} is out of range; {num_classes} classes allow 0 to {num_classes - 1}"
        )
    return label
