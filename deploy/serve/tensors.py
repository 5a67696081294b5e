"""Tensors of the Open Inference Protocol, as numbers or as bytes, to NumPy.

Protocol: ``open-inference-protocol``, specification/protocol/inference_rest.md (tensor data, datatypes) and
the extension for binary tensor data: bytes little endian, row by row.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.serve.model import TensorSpec
from deploy.serve.refusal import bad_request

__all__ = ["checked_shape", "from_bytes", "from_numbers", "short", "whole_number"]

_MOST_DIGITS = 18  # Python refuses to read some thousands, and nothing here has more bytes than that

_MOST_SHOWN = 100
_ALLOWED: Mapping[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
"""Kinds of NumPy's types to what JSON has for them."""


def short(value: Any) -> str:
    """What somebody sent, fit for a message, however long it is."""
    text = reprlib.repr(value)  # which looks at the first few of everything
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def whole_number(text: str) -> int | None:
    """What a text of digits says, or None: it is none, or has more digits than any number here needs."""
    digits = text.lstrip("0") or text[-1:]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS else None


def checked_shape(name: Any, datatype: Any, shape: Any, spec: TensorSpec) -> tuple[int, ...]:
    """The shape of an input, once it is known to fit the model.

    Args:
        name: that the request gives it.
        datatype: likewise.
        shape: likewise.
        spec: the model's input.

    Raises:
        Refused: one of them does not fit.
    """
    if name != spec.name:
        bad_request(f"the model has no input {short(name)}; its input is '{spec.name}'")
    if datatype != spec.datatype:
        bad_request(f"input '{spec.name}' is of datatype {short(datatype)}; the model takes {spec.datatype}")
    sizes = shape if isinstance(shape, list) else ()
    if not all(type(size) is int for size in sizes) or not _fits(sizes, spec.shape):
        bad_request(f"input '{spec.name}' has shape {short(shape)}; the model takes {list(spec.shape)}")
    return tuple(sizes)


def _fits(sizes: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(sizes) == len(wanted) and all(
        0 < size < 2**31 and want in (size, -1) for size, want in zip(sizes, wanted, strict=True)
    )


def from_bytes(raw: bytes | memoryview, shape: tuple[int, ...], spec: TensorSpec) -> NDArray[Any]:
    """A tensor of its bytes.

    Raises:
        Refused: they are too many or too few.
    """
    expected = math.prod(shape) * spec.dtype.itemsize
    if len(raw) != expected:
        bad_request(
            f"input '{spec.name}' has {len(raw)} bytes; {spec.datatype} {list(shape)} takes {expected}"
        )
    array = np.frombuffer(raw, spec.dtype.newbyteorder("<")).astype(spec.dtype, copy=False)
    return np.require(array.reshape(shape), requirements=("C", "A"))


def from_numbers(data: Any, shape: tuple[int, ...], spec: TensorSpec) -> NDArray[Any]:
    """A tensor of numbers: one list of all, or lists in lists.

    Raises:
        Refused: they are no numbers, too many or too few, or do not fit the type.
    """
    if not isinstance(data, list):
        bad_request(f"input '{spec.name}' has data {short(data)}; a list of numbers is needed")
    flat, sizes = _flattened(data, spec)
    if len(flat) != math.prod(shape) or (len(sizes) > 1 and tuple(sizes) != shape):
        bad_request(f"input '{spec.name}' has data of shape {short(sizes)} for shape {list(shape)}")
    # Types first: of a text among them NumPy would make room for one of its length at each place.
    if not set(map(type, flat)) <= _ALLOWED[spec.dtype.kind]:
        bad_request(f"input '{spec.name}' has data that is not {spec.datatype}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, np.float64 if spec.dtype.kind == "f" else spec.dtype).astype(spec.dtype)
    except OverflowError:
        array = None
    if array is None or (spec.dtype.kind == "f" and not np.isfinite(array).all()):
        bad_request(f"input '{spec.name}' has a number that does not fit {spec.datatype}")
    return array.reshape(shape)


def _flattened(data: list[Any], spec: TensorSpec) -> tuple[list[Any], list[int]]:
    """All numbers in order, and the lengths of the lists they were in."""
    sizes = [len(data)]
    while data and set(map(type, data)) == {list}:
        lengths = set(map(len, data))
        if len(lengths) > 1:
            bad_request(f"input '{spec.name}' has lists of different lengths")
        sizes += lengths
        data = list(chain.from_iterable(data))
    return data, sizes
