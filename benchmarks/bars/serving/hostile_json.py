"""Requests of the REST protocol that break its published schema, or use it to do harm."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from benchmarks.bars.serving.samples import Samples

__all__ = ["SCHEMA", "bodies"]

SCHEMA: Mapping[str, Mapping[str, str]] = {
    "request": {"id": "string?", "parameters": "parameters?", "inputs": "input*", "outputs": "output*?"},
    "input": {
        "name": "string",
        "shape": "number*",
        "datatype": "string",
        "parameters": "parameters?",
        "data": "tensor",
    },
    "output": {"name": "string", "parameters": "parameters?"},
}
"""Inference request of ``open-inference-protocol``, inference_rest.md; ``?`` is optional, ``*`` a list."""

_NUMBERS = (0, -1, 1, 2**31, 2**32 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, 1e308, 1e-320, True)
_NOT_FINITE = (float("nan"), float("inf"), -float("inf"))
_TEXTS = ("", "\x00", "é" * 300, "../../etc/passwd", "x" * 2**20, "\ud800", "＂", "%s%n{0}", "\r\nx: y")
_DATATYPES = ("BOOL", "UINT8", "INT64", "FP16", "FP32", "fp32", "FP64", "BYTES", "BF16", "object", "<f4")
_FLAGS = ("binary_data_size", "binary_data", "binary_data_output", "classification", "priority")
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(_TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
_PARAMETERS = st.dictionaries(
    st.sampled_from(_FLAGS) | st.text(max_size=5),
    st.booleans() | st.sampled_from(_NUMBERS) | st.sampled_from(_TEXTS) | _ANY,
    max_size=3,
)


def bodies(samples: Samples) -> st.SearchStrategy[bytes]:
    """Bodies of a request, most of them almost right."""
    return st.tuples(_request(samples), st.sampled_from(tuple(_SPELLINGS))).map(
        lambda pair: _SPELLINGS[pair[1]](pair[0])
    )


def _request(samples: Samples) -> st.SearchStrategy[Any]:
    shape = list(samples.inputs.shape)
    right: Mapping[str, Any] = {
        "request": {"inputs": [{"name": samples.name, "shape": shape, "datatype": "FP32", "data": []}]},
        "name": samples.name,
        "outputs": [{"name": samples.output}],
    }
    flat = samples.inputs.ravel().tolist()
    tensors = (flat, samples.inputs.tolist(), flat[:-1], [flat], [[flat], flat], [*flat[1:], "x" * 10**6])
    odd: tuple[Any, ...] = (
        [],
        [[]],
        [[], []],
        [[]] * 10**5,
        [True] * len(flat),
        [None],
        [10**400],
        ["1.5"],
        {},
        "AAAA",
        5,
    )
    data = st.sampled_from((*tensors, *tensors, *odd)) | st.lists(_ANY, max_size=4)
    kinds = {
        "string": st.sampled_from((samples.name, samples.output, "FP32", *_TEXTS, *_DATATYPES)),
        "number*": st.sampled_from((shape, shape, shape[:-1], [0, *shape[1:]], [-1, *shape[1:]]))
        | st.lists(st.sampled_from(_NUMBERS) | st.integers(), max_size=6)
        | st.just([1] * 10**4),
        "parameters": _PARAMETERS,
        "tensor": data,
    }

    def of(kind: str) -> st.SearchStrategy[Any]:
        kind = kind.removesuffix("?")
        if kind in kinds:
            return kinds[kind]
        if kind.endswith("*"):
            return st.lists(message(kind[:-1]), min_size=1, max_size=2)
        return message(kind)

    def message(name: str) -> st.SearchStrategy[Any]:
        fields = SCHEMA[name]
        correct = {"name": samples.name if name == "input" else samples.output, "datatype": "FP32"}
        correct_values: dict[str, Any] = {**correct, "shape": shape, "data": flat}
        must = {
            key: st.just(correct_values[key]) | st.just(correct_values[key]) | of(kind) | _ANY
            if key in correct_values
            else of(kind)
            for key, kind in fields.items()
            if not kind.endswith("?")
        }
        may = {key: of(kind) | _ANY for key, kind in fields.items() if kind.endswith("?")}
        return st.fixed_dictionaries(must, optional=may)

    dropped = st.tuples(message("request"), st.sampled_from(("id", "inputs", "outputs"))).map(
        lambda pair: {key: value for key, value in pair[0].items() if key != pair[1]}
    )
    return st.one_of(
        message("request"), message("request"), message("request"), dropped, _ANY, st.just(right)
    )


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _utf8(value: Any) -> bytes:
    return _dumped(value).encode("utf-8", "surrogatepass")


_SPELLINGS: Mapping[str, Any] = {
    "plain": _utf8,
    "plain again": _utf8,
    "escaped": lambda value: json.dumps(value).encode(),
    "byte order mark": lambda value: b"\xef\xbb\xbf" + _utf8(value),
    "UTF-16": lambda value: _dumped(value).encode("utf-16", "surrogatepass"),
    "cut": lambda value: _utf8(value)[: max(1, len(_utf8(value)) * 2 // 3)],
    "twice": lambda value: _utf8(value) * 2,
    "keys twice": lambda value: (
        b'{"inputs":[],"inputs":' + _utf8(value) + b',"id":"a","id":' + _utf8(value) + b"}"
    ),
    "nested deeply": lambda value: b'{"inputs":' + b"[" * 10**5 + _utf8(value) + b"]" * 10**5 + b"}",
    "nested below the limit": lambda value: b'{"inputs":' + b"[" * 900 + _utf8(value) + b"]" * 900 + b"}",
    "in a list": lambda value: b"[" + _utf8(value) + b"]",
    "long number": lambda value: b'{"id":' + b"9" * 10**6 + b',"inputs":' + _utf8(value) + b"}",
    "bytes that are no text": lambda value: _utf8(value).replace(b"i", b"\xff"),
    "NUL behind": lambda value: _utf8(value) + b"\x00" * 10,
}
