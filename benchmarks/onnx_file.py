"""What can be told of an ONNX file without running it."""

from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from quant.errors import BadInput

__all__ = ["file_size", "weight_files"]


def file_size(path: Path) -> int:
    """Bytes of an ONNX file and of the external weight files it names.

    Raises:
        BadInput: a file is missing or is not an ONNX model.
    """
    outside = weight_files(path)
    try:
        return path.stat().st_size + sum((path.parent / name).stat().st_size for name in outside)
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read: {error.strerror}") from error


def weight_files(path: Path) -> tuple[str, ...]:
    """The external weight files that an ONNX file names, relative to its folder, sorted.

    Raises:
        BadInput: the file is missing or is not an ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        tensors = [t for t in model.graph.initializer if uses_external_data(t)]
        return tuple(sorted({e.value for t in tensors for e in t.external_data if e.key == "location"}))
    except OSError as error:
        raise BadInput(f"{error.filename or path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # protobuf's own error type is not public
        raise BadInput(f"{path}: not an ONNX model: {error}") from error
