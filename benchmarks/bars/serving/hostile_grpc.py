"""gRPC messages and frames that are broken or dishonest."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hypothesis import strategies as st

from benchmarks.bars.serving.attempt import Attempt, Limits
from benchmarks.bars.serving.samples import Samples
from benchmarks.bars.serving.served import MODEL
from benchmarks.bars.serving.wire import infer_message
from deploy.serve.messages import METHODS, SERVICE, message

__all__ = ["FRAMES", "GRPC", "Call"]

_CONTENTS = ("bool", "int", "int64", "uint", "uint64", "fp32", "fp64", "bytes")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Call:
    """What is sent to gRPC's port.

    Attributes:
        method: its full name.
        content: of the message.
    """

    method: str
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method}: {self.content[:300]!r} ({len(self.content)} bytes)"


def _path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def _mutated(samples: Samples, limits: Limits) -> st.SearchStrategy[Call]:
    """A good message, changed at some bytes; most changes hit what is around the tensor."""
    del limits
    good = infer_message(samples.name, samples.inputs).SerializeToString()

    def changed(given: tuple[int, bool, int, bytes, str]) -> Call:
        at, early, skip, put, method = given
        at %= 80 if early else len(good)
        return Call(_path(method), good[:at] + put + good[at + skip :])

    names = st.sampled_from(("ModelInfer",) * 5 + METHODS)
    early = st.sampled_from((True, True, True, False))
    return st.tuples(st.integers(0, 10**6), early, st.integers(0, 9), st.binary(max_size=9), names).map(
        changed
    )


def _fields(samples: Samples, limits: Limits) -> st.SearchStrategy[Call]:
    """Whole messages with wrong values."""
    del limits
    shape, raw = list(samples.inputs.shape), samples.inputs.tobytes()
    names = st.sampled_from((MODEL, MODEL, MODEL, "", "x" * 10**6, "../..", "\0", "é"))
    inputs = st.sampled_from((samples.name, samples.name, samples.name, "", "y" * 10**5, samples.output))
    shapes = st.sampled_from((shape, shape, [], [0, *shape[1:]], [-1, *shape[1:]], [2**62] * 4, [1] * 10**5))
    raws = st.sampled_from(([raw], [raw], [raw[:-1]], [raw, raw], [], [b""], [b"\xff" * len(raw)]))
    contents = st.sampled_from(("", "", *_CONTENTS))
    outputs = st.sampled_from(("", "", samples.output, "z" * 10**5))

    def made(given: tuple[str, str, str, list[int], list[bytes], str, str, int]) -> Call:
        name, given_input, datatype, dims, tensors, typed, output, copies = given
        request = message("ModelInferRequest")(model_name=name, id="i" * copies * 10**5)
        for _ in range(copies):
            entry = request.inputs.add(name=given_input, datatype=datatype, shape=dims)
            if typed:
                values = {"bytes": [b"x"] * 9, "bool": [True] * 9}.get(typed, [1] * 9)
                getattr(entry.contents, f"{typed}_contents").extend(values)
        if output:
            request.outputs.add(name=output)
        request.raw_input_contents.extend(tensors)
        return Call(_path("ModelInfer"), request.SerializeToString())

    datatypes = st.sampled_from(("FP32", "FP32", "FP64", "BYTES", "", "x" * 10**4))
    copies = st.sampled_from((1, 1, 1, 0, 2, 9))
    return st.tuples(names, inputs, datatypes, shapes, raws, contents, outputs, copies).map(made)


def _random(samples: Samples, limits: Limits) -> st.SearchStrategy[Call]:
    """Bytes, large messages, methods that are not there."""
    del samples
    methods = st.sampled_from(
        (*map(_path, METHODS), _path("Nothing"), "/a/b", "/", f"/{SERVICE}", "/%2e%2e/x")
    )
    sizes = st.sampled_from((10**5, limits.request_mib * 2**20 + 2**17)).map(lambda size: b"\x0a" * size)
    nested = st.integers(1, 5000).map(lambda depth: b"\x2b" * depth)  # groups in groups
    content = st.binary(max_size=300) | st.binary(max_size=300) | sizes | nested
    return st.tuples(methods, content).map(lambda pair: Call(*pair))


def _frames(samples: Samples, limits: Limits) -> st.SearchStrategy[Attempt]:
    """HTTP/2 that is broken: no answer is due, but the port must live on."""
    del samples, limits

    def frame(given: tuple[int, int, int, bytes]) -> bytes:
        kind, flags, stream, content = given
        return (
            struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content
        )

    some = st.tuples(
        st.integers(0, 10),
        st.integers(0, 255),
        st.sampled_from((0, 1, 1, 3, 2, 2**31 - 1)),
        st.binary(max_size=60),
    ).map(frame)
    settings = frame((4, 0, 0, b""))
    streams = st.lists(some, min_size=1, max_size=8).map(
        lambda frames: _PREFACE + settings + b"".join(frames)
    )
    data = st.one_of(
        streams, streams, streams, st.binary(min_size=1, max_size=300), st.just(b"GET / HTTP/1.1\r\n\r\n")
    )
    return data.map(lambda content: Attempt((content,), "gone", answers=0))


GRPC: Mapping[str, Callable[[Samples, Limits], st.SearchStrategy[Call]]] = {
    "gRPC messages, changed": _mutated,
    "gRPC messages, wrong values": _fields,
    "gRPC bytes and methods": _random,
}
"""Strategies by what they try."""

FRAMES = {"HTTP/2 frames": _frames}
"""The same, below gRPC."""
