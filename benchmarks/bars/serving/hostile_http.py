"""HTTP that is broken or dishonest, but for the framing of bodies."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from benchmarks.bars.serving.attempt import Attempt, Limits
from benchmarks.bars.serving.hostile_framing import framings
from benchmarks.bars.serving.hostile_images import images
from benchmarks.bars.serving.hostile_json import bodies
from benchmarks.bars.serving.samples import Samples
from benchmarks.bars.serving.served import MODEL
from benchmarks.bars.serving.wire import infer_path, request_bytes

__all__ = ["HTTP"]

_LENGTH = "Inference-Header-Content-Length"


def _post(body: bytes, path: str = infer_path(), headers: Mapping[str, str] | None = None) -> Attempt:
    return Attempt((request_bytes(path, body, headers),))


def _json_bytes(value: Any) -> bytes:
    """JSON as Python spells it, with what JSON does not know."""
    return json.dumps(value).encode()


def _json(samples: Samples, limits: Limits) -> st.SearchStrategy[Attempt]:
    del limits
    return bodies(samples).map(_post)


def _binary(samples: Samples, limits: Limits) -> st.SearchStrategy[Attempt]:
    """The binary extension: lengths in the header and in the parameters against what is there."""
    del limits
    raw, shape = samples.inputs.tobytes(), list(samples.inputs.shape)
    right = len(raw)
    sizes = st.sampled_from((right, right, right - 1, 0, -1, 2**63, 1e3, "8", None, True, [right]))
    tails = st.sampled_from(
        (raw, raw, raw[:-1], raw + b"\0", b"", b"\xff" * right, b"\x00\x00\xc0\x7f" * (right // 4))
    )
    shapes = st.sampled_from(
        (shape, shape, [0, *shape[1:]], [2**31, *shape[1:]], [2**40] * len(shape), [-1], [])
    )
    lengths = st.sampled_from(
        ("right", "right", "right", "-1", "0", "", "1e3", "0" * 5000, "9" * 5000, "１２", "2, 2")
    )

    def made(given: tuple[Any, Any, Any, str, bool]) -> Attempt:
        size, tail, dims, length, numbers = given
        entry = {
            "name": samples.name,
            "datatype": "FP32",
            "shape": dims,
            "parameters": {"binary_data_size": size},
        }
        if numbers:
            entry["data"] = [1.0]
        text = _json_bytes({"inputs": [entry], "parameters": {"binary_data_output": True}})
        told = str(len(text)) if length == "right" else length
        head = f"POST {infer_path()} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(text) + len(tail)}\r\n"
        return Attempt((f"{head}{_LENGTH}: {told}\r\n\r\n".encode() + text + tail,))

    numbers = st.sampled_from((False, False, False, True))
    return st.tuples(sizes, tails, shapes, lengths, numbers).map(made)


def _addresses(samples: Samples, limits: Limits) -> st.SearchStrategy[Attempt]:
    """Models that are not there, and paths that lead elsewhere."""
    del limits
    names = st.sampled_from(
        (
            "..%2f..%2fetc%2fpasswd",
            "../../etc/passwd",
            "%00",
            f"{MODEL}%00",
            "%c3%28",
            "é",
            "%ff%fe",
            "x" * 60000,
            f"{MODEL}/versions/2",
            f"{MODEL}/versions/..",
            f"{MODEL}%2finfer",
            "%252e%252e",
            "",
            ".",
            "..",
            "{name}",
            "\\..\\..",
            "__class__",
            "con",
            f"{MODEL};a=b",
            f"{MODEL}?x",
            f"{MODEL}#x",
            "%",
            "%2",
        )
    ) | st.text(min_size=1, max_size=20)
    tops = st.sampled_from(
        ("", "?top=0", "?top=1001", "?top=" + "0" * 9 + "1" * 5000, "?top=٣", "?top=1&top=2", "?%00")
    )
    verbs = st.sampled_from(("infer", "classify", "ready", "", "metrics", "../../..", "infer/", "load"))
    methods = st.sampled_from(
        ("POST", "POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT")
    )
    prefixes = st.sampled_from(
        ("/v2/models/", "/v2/models/", "/v2/", "/", "//", "/v1/models/", "http://a/v2/models/", "*")
    )

    def made(given: tuple[str, str, str, str, str]) -> Attempt:
        method, prefix, name, verb, top = given
        target = f"{prefix}{name}/{verb}{top}".encode("utf-8", "surrogatepass")
        body = samples.image
        head = b"%b %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (
            method.encode(),
            target,
            len(body),
        )
        return Attempt((head + body,), answers=0)

    return st.tuples(methods, prefixes, names, verbs, tops).map(made)


def _garbage(samples: Samples, limits: Limits) -> st.SearchStrategy[Attempt]:
    """Bytes that are no HTTP, or hardly."""
    del samples, limits
    right = request_bytes(infer_path(), b"{}", {"Connection": "close"})
    firsts = (
        b"GET /",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 99,
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\n x: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 10**6 + b"\r\n\r\n",
        b"GET /" + b"y" * 10**6 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10**5 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"x" * 10**5 + b": y\r\n\r\n",
        b"GET /%s HTTP/1.1\r\nHost: [\r\n\r\n",
        b"quit\r\n",
    )
    flips = st.tuples(st.integers(0, len(right) - 1), st.binary(min_size=1, max_size=3)).map(
        lambda pair: right[: pair[0]] + pair[1] + right[pair[0] + 1 :]
    )
    data = st.binary(min_size=1, max_size=400) | st.sampled_from(firsts) | flips
    return data.map(lambda content: Attempt((content,), "half", answers=0))


def _images(samples: Samples, limits: Limits) -> st.SearchStrategy[Attempt]:
    del limits
    return images(samples.image).map(lambda body: _post(body, infer_path("classify")))


HTTP: Mapping[str, Callable[[Samples, Limits], st.SearchStrategy[Attempt]]] = {
    "JSON against the schema": _json,
    "binary tensors": _binary,
    "addresses and methods": _addresses,
    "framing of bodies": framings,
    "bytes that are no HTTP": _garbage,
    "images": _images,
}
"""Strategies by what they try."""
