"""CIFAR-10 and CIFAR-100 in the binary form that their authors publish.

A file is a run of rows without a header. A row is one label byte (CIFAR-100: two, the coarse and the fine
one) and 3,072 pixel bytes: 32 × 32 red, then green, then blue, each row by row.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images", and the data set's page,
"Binary version". The page's version for Python holds pickled objects, which Octavo does not read.
"""

import gzip
import lzma
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from quant.data.config import SourceConfig
from quant.data.sources import check_label, register_source, required_path
from quant.errors import BadInput

__all__ = ["Cifar10Source", "Cifar100Source"]

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_DAMAGED = (tarfile.TarError, OSError, EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)


@dataclass(frozen=True)
class _Layout:
    """How one of the two data sets is laid out.

    Attributes:
        title: what it is called.
        archive: the file to download.
        folder: what the archive unpacks to.
        files: the files of each split, in order.
        labels: label bytes at the start of a row, by name, each with its number of classes.
        alien: files of the other versions or of the other data set, to what they are.
    """

    title: str
    archive: str
    folder: str
    files: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, int]
    alien: Mapping[str, str]


_PICKLED = "the version for Python, whose files hold pickled objects"
_MATLAB = "the version for Matlab"
_CIFAR10 = _Layout(
    title="CIFAR-10",
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    labels={"fine": 10},
    alien={"data_batch_1": _PICKLED, "test_batch.mat": _MATLAB, "train.bin": "CIFAR-100 (kind cifar100)"},
)
_CIFAR100 = _Layout(
    title="CIFAR-100",
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    files={"train": ("train.bin",), "test": ("test.bin",)},
    labels={"coarse": 20, "fine": 100},
    alien={"train": _PICKLED, "train.mat": _MATLAB, "test_batch.bin": "CIFAR-10 (kind cifar10)"},
)


class _CifarSource:
    """One split of either."""

    def __init__(self, config: SourceConfig, layout: _Layout, labels: str) -> None:
        split = config.split or ""
        if split not in layout.files:
            known = ", ".join(layout.files)
            raise BadInput(f"kind {config.kind} needs a split; allowed: {known}; given: {config.split}")
        self.num_classes = layout.labels[labels]
        if config.num_classes is not None and config.num_classes < self.num_classes:
            raise BadInput(
                f"{layout.title} has {self.num_classes} classes ({labels} labels); the model has "
                f"{config.num_classes}"
            )
        path, names = required_path(config), layout.files[split]
        contents = _from_folder(path, layout, names) if path.is_dir() else _archived(path, layout, names)
        rows = [_rows(contents[name], f"{path}: {name}", layout) for name in names]
        column = list(layout.labels).index(labels)
        self._names = [
            f"{name}[{i}]" for name, part in zip(names, rows, strict=True) for i in range(len(part))
        ]
        found = np.concatenate([part[:, column] for part in rows])
        self.labels = [
            check_label(int(label), f"{path}: {self._names[i]}", self.num_classes)
            for i, label in enumerate(found)
        ]
        pixels = np.concatenate([part[:, len(layout.labels) :] for part in rows])
        self._images = pixels.reshape(-1, 3, _SIDE, _SIDE)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self._images[index].transpose(1, 2, 0)), self.labels[index]

    def name(self, index: int) -> str:
        """Return the file and the row in it, which counts from 0."""
        return self._names[index]


@register_source("cifar10")
class Cifar10Source(_CifarSource):
    """CIFAR-10, split ``train`` (50,000 images) or ``test`` (10,000), 10 classes.

    ``path`` is ``cifar-10-binary.tar.gz`` as it was downloaded, or a folder with it or with its ``.bin``
    files. The split's images are held in memory, 3 KiB each.

    Raises:
        BadInput: If the split is unknown, a file is missing, damaged or of another version of the data set,
            or the model has too few classes.
    """

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config, _CIFAR10, "fine")


@register_source("cifar100", options=True)
class Cifar100Source(_CifarSource):
    """CIFAR-100, as :class:`Cifar10Source` from ``cifar-100-binary.tar.gz``.

    Its 100 classes, or with ``options: {labels: coarse}`` its 20 superclasses.

    Raises:
        BadInput: As :class:`Cifar10Source`, or if there is another option.
    """

    def __init__(self, config: SourceConfig) -> None:
        options = dict(config.options)
        labels = options.pop("labels", "fine")
        if options or labels not in _CIFAR100.labels:
            raise BadInput(
                f"kind cifar100 has one option, labels: fine or coarse; given: {dict(config.options)}"
            )
        super().__init__(config, _CIFAR100, labels)


def _from_folder(path: Path, layout: _Layout, names: tuple[str, ...]) -> dict[str, bytes]:
    folder = next((f for f in (path, path / layout.folder) if (f / names[0]).is_file()), path)
    present = [entry.name for entry in folder.iterdir()]
    if layout.archive in present and names[0] not in present:
        return _archived(path / layout.archive, layout, names)
    _check_present(path, present, layout, names)
    try:
        return {name: (folder / name).read_bytes() for name in names}
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read ({error.strerror})") from error


def _archived(path: Path, layout: _Layout, names: tuple[str, ...]) -> dict[str, bytes]:
    """The files of an archive by name. Nothing is written to the disk."""
    try:
        with tarfile.open(path, "r:*") as archive:
            members = {Path(member.name).name: member for member in archive if member.isfile()}
            _check_present(path, list(members), layout, names)
            return {name: _content(archive, members[name]) for name in names}
    except BadInput:
        raise
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(": ")  # tarfile goes on with what each format found
        raise BadInput(
            f"{path}: is not a whole archive ({reason}); download {layout.archive} again, or give the folder "
            "that it unpacks to"
        ) from error


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, "it is a regular file"
    with file:
        return file.read()


def _check_present(path: Path, present: list[str], layout: _Layout, names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in present]
    if not missing:
        return
    alien = next((what for name, what in layout.alien.items() if name in present), None)
    found = f"this is {alien}" if alien else f"found {', '.join(sorted(present)[:8]) or 'nothing'}"
    raise BadInput(
        f"{path}: has no {' and no '.join(missing)}; {found}. {layout.title} is read from "
        f"{layout.archive}, the binary version, or from the folder that it unpacks to"
    )


def _rows(content: bytes, where: str, layout: _Layout) -> npt.NDArray[np.uint8]:
    """The rows of a file, [N, labels + 3072]."""
    size = len(layout.labels) + _PIXELS
    if not content or len(content) % size:
        raise BadInput(
            f"{where} has {len(content)} bytes, which is no whole number of rows of {size}; it is cut off or "
            f"something else: take it from {layout.archive} again"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
