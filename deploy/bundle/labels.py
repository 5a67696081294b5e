"""The names of a model's outputs."""

import csv
from pathlib import Path

from deploy.pipeline.line import Line
from quant.data.sources import class_names, open_source
from quant.errors import BadInput

__all__ = ["labels_from_file", "labels_of_run"]


def labels_from_file(path: Path, outputs: int | None) -> list[str]:
    """Read one name per line; of a ``.csv``, the column ``name`` in the order of ``class_index``.

    Args:
        path: the file.
        outputs: how many outputs there are, where that is known.

    Raises:
        BadInput: it cannot be read, or does not name each output.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = _of_table(path, text) if path.suffix.lower() == ".csv" else text.rstrip("\n").split("\n")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: is not text in UTF-8 ({error})") from error
    names = [name.strip() for name in names]
    if "" in names:
        raise BadInput(f"{path}: the name of output {names.index('')} is empty; give one for each")
    if outputs is not None and len(names) != outputs:
        raise BadInput(f"{path}: has {len(names)} names, the model has {outputs} outputs; give one for each")
    return names


def labels_of_run(line: Line, outputs: int | None) -> list[str] | None:
    """The class names that the run's validation images bring, such as those of their folders.

    Args:
        line: the run.
        outputs: how many outputs there are, where that is known.

    Returns:
        A name for each output, its index where the images do not say; None where they name none.

    Raises:
        BadInput: the images are not there any more.
    """
    if line.config.task == "multilabel":
        return None  # a label is a set of answers, so its name is not that of an output
    try:
        names = class_names(open_source(line.config.validation, outputs))
    except BadInput as error:
        raise BadInput(f"class names cannot be read from the images ({error}); give --labels FILE") from error
    if not names:
        return None
    return [" ".join(names.get(i, str(i)).split()) for i in range(outputs or max(names) + 1)]


def _of_table(path: Path, text: str) -> list[str]:
    rows = csv.DictReader(text.splitlines())
    if not {"class_index", "name"} <= set(rows.fieldnames or ()):
        raise BadInput(f"{path}: needs the columns class_index and name; found {rows.fieldnames}")
    try:
        names = {int(row["class_index"]): row["name"] or "" for row in rows}
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path} line {rows.line_num}: class_index is not an integer") from error
    if sorted(names) != list(range(len(names))):
        raise BadInput(f"{path}: class_index must count from 0 without a gap")
    return [names[i] for i in range(len(names))]
