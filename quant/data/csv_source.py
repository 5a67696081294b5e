"""Image files listed with their class indices in a CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from quant.data.config import SourceConfig, expand
from quant.data.sources import check_label, register_source, required_path
from quant.errors import BadInput
from quant.images import decode_image

__all__ = ["CsvSource"]

_LABEL_COLUMNS = ("class_index", "label")
_NAME_COLUMN = "class_name"


@register_source("csv")
class CsvSource:
    """The files of a CSV with the columns `file` and `class_index` (or `label`), in the order of its rows.

    A column `class_name`, where there is one, names the classes.

    Raises:
        BadInput: Naming the CSV and the line, for a missing column, a label that is no class index, a second
            name of a class or a file that does not exist; naming the CSV if it lists nothing.
    """

    def __init__(self, config: SourceConfig) -> None:
        self._table = required_path(config)
        self._root = self._table.parent if config.root is None else expand(config.root)
        if not self._root.is_dir():
            raise BadInput(f"{self._root}: is not a folder (root of the files of {self._table})")
        self.num_classes = config.num_classes
        self.class_names: dict[int, str] = {}
        self._files, self.labels, self._lines = _read_rows(
            self._table, self._root, config.num_classes, self.class_names
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path = self._root / self._files[index]
        return decode_image(path, f"{path} ({self._table} line {self._lines[index]})"), self.labels[index]

    def name(self, index: int) -> str:
        """Return the file as the CSV writes it."""
        return self._files[index]


def _read_rows(
    table: Path, root: Path, num_classes: int | None, names: dict[int, str]
) -> tuple[Sequence[str], Sequence[int], Sequence[int]]:
    files: list[str] = []
    labels: list[int] = []
    lines: list[int] = []
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            column = _label_column(table, reader.fieldnames or ())
            for row in reader:
                where = f"{table} line {reader.line_num}"
                file, text = (row["file"] or "").strip(), (row[column] or "").strip()
                try:
                    label = int(text)
                except ValueError:
                    raise BadInput(f"{where}: {column} {text!r} is not an integer") from None
                if not file or not (root / file).is_file():
                    raise BadInput(f"{where}: file {file!r} does not exist in {root}")
                files.append(file)
                labels.append(check_label(label, where, num_classes))
                lines.append(reader.line_num)
                name = (row.get(_NAME_COLUMN) or "").strip()
                if name and names.setdefault(label, name) != name:
                    raise BadInput(f"{where}: class {label} is {name!r} here and {names[label]!r} above")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{table}: cannot be read as a CSV in UTF-8 ({error})") from error
    if not files:
        raise BadInput(f"{table}: lists no images")
    return files, labels, lines


def _label_column(table: Path, header: Sequence[str]) -> str:
    column = next((name for name in _LABEL_COLUMNS if name in header), None)
    if column is None or "file" not in header:
        raise BadInput(
            f"{table} line 1: needs the columns file and class_index (or label); "
            f"found {', '.join(header) or 'none'}"
        )
    return column
