"""Numbers and bytes of the protocol become the tensors that they say."""

import re
from typing import Any

import numpy as np
import pytest

from deploy.serve.model import TensorSpec
from deploy.serve.refusal import Refused
from deploy.serve.tensors import checked_shape, from_bytes, from_numbers, short


def spec(dtype: str, *shape: int) -> TensorSpec:
    names = {"float32": "FP32", "float16": "FP16", "int8": "INT8", "uint64": "UINT64", "bool": "BOOL"}
    return TensorSpec("x", names[dtype], np.dtype(dtype), shape)


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("float32", [0.1, -0.0, 1, 3.4028235e38]),
        ("float16", [0.1, 65504.0, 0, 1e-8]),
        ("int8", [-128, 127, 0, 1]),
        ("uint64", [0, 2**64 - 1, 1, 2]),
        ("bool", [True, False, True, True]),
    ],
)
def test_numbers_of_each_type(dtype: str, data: list[Any]) -> None:
    for nested in (data, [data[:2], data[2:]]):
        array = from_numbers(nested, (2, 2), spec(dtype, -1, 2))
        assert array.dtype == np.dtype(dtype)
        assert array.tobytes() == np.array(data, dtype).tobytes()


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("int8", [128, 0]),
        ("int8", [1.0, 0]),
        ("int8", [True, False]),
        ("uint64", [-1, 0]),
        ("uint64", [2**64, 0]),
        ("bool", [1, 0]),
        ("float16", [65520.0, 0]),
        ("float32", [10**400, 0]),
        ("float32", ["1", 0]),
        ("float32", [{}, 0]),
        ("float32", [[1.0], 0]),
        ("float32", [[[1.0, 2.0]]]),
    ],
)
def test_numbers_that_do_not_fit(dtype: str, data: list[Any]) -> None:
    with pytest.raises(Refused) as caught:
        from_numbers(data, (1, 2), spec(dtype, -1, 2))
    assert caught.value.status == 400


def test_bytes_are_little_endian_and_counted() -> None:
    array = from_bytes(b"\x00\x00\x80\x3f\x00\x00\x00\x40", (1, 2), spec("float32", -1, 2))
    assert array.tolist() == [[1.0, 2.0]]
    for size in (0, 7, 9):
        with pytest.raises(Refused, match=re.escape(f"has {size} bytes; FP32 [1, 2] takes 8")):
            from_bytes(bytes(size), (1, 2), spec("float32", -1, 2))


@pytest.mark.parametrize(
    "shape", [None, "12", [], [1], [0, 2], [-1, 2], [1, 2.0], [True, 2], [2**63, 2], [1, 2, 1]]
)
def test_shapes_that_do_not_fit(shape: Any) -> None:
    with pytest.raises(Refused, match="the model takes"):
        checked_shape("x", "FP32", shape, spec("float32", -1, 2))


def test_what_somebody_sent_is_shown_short() -> None:
    assert len(short("x" * 10**6)) < 110
    assert len(short([["x" * 10**6] * 1000] * 1000)) < 110
