"""Image files sorted into one folder per class."""

from pathlib import Path

from PIL import Image

from quant.data.config import SourceConfig, expand
from quant.data.sources import check_label, register_source, required_path
from quant.errors import BadInput
from quant.images import IMAGE_SUFFIXES, decode_image

__all__ = ["FolderSource"]


@register_source("folder")
class FolderSource:
    """The image files below `path`, one subfolder per class, in the order of their sorted paths.

    Files without an image suffix and hidden entries are passed over.

    Raises:
        BadInput: If `path` is no folder, has no image, or has a subfolder that `classes` or `labels` lacks.
    """

    def __init__(self, config: SourceConfig) -> None:
        self._root = required_path(config)
        if not self._root.is_dir():
            raise BadInput(f"{self._root}: is not a folder; kind folder needs one subfolder per class")
        folders = sorted(p for p in self._root.iterdir() if p.is_dir() and not p.name.startswith("."))
        index_of, self.num_classes = _class_indices(config, [folder.name for folder in folders])
        self.class_names = {index: name for name, index in index_of.items()}
        self._files: list[Path] = []
        self.labels: list[int] = []
        for folder in folders:
            if folder.name not in index_of:
                raise BadInput(f"{folder}: the class list of {self._root} has no class {folder.name!r}")
            label = check_label(index_of[folder.name], str(folder), self.num_classes)
            files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            self._files += files
            self.labels += [label] * len(files)
        if not self._files:
            raise BadInput(f"{self._root}: has no image files in subfolders")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return decode_image(self._files[index], str(self._files[index])), self.labels[index]

    def name(self, index: int) -> str:
        """Return the file relative to the source's folder."""
        return self._files[index].relative_to(self._root).as_posix()


def _class_indices(config: SourceConfig, found: list[str]) -> tuple[dict[str, int], int | None]:
    """Return the class index of each folder name, and the number of classes where it is known."""
    if config.classes is not None and config.labels is not None:
        raise BadInput("an image source of kind folder takes classes or labels, not both")
    if config.labels is not None:
        return config.labels, config.num_classes
    names = found if config.classes is None else _read_names(expand(config.classes))
    index_of = {name: index for index, name in enumerate(names)}
    if config.classes is not None and config.num_classes is None:
        return index_of, len(names)
    return index_of, config.num_classes


def _read_names(path: Path) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: the class list cannot be read as UTF-8 text ({error})") from error
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    first_line: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        if not name:
            raise BadInput(f"{path} line {line}: is empty; every line names one class")
        if name in first_line:
            raise BadInput(f"{path} line {line}: class {name!r} is already on line {first_line[name]}")
        first_line[name] = line
    return names
