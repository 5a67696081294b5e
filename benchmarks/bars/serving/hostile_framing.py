"""Bodies whose lengths lie, whose chunks are none, and which are cut, large, slow or compressed."""

import json

from hypothesis import strategies as st

from benchmarks.bars.serving.attempt import Attempt, Limits
from benchmarks.bars.serving.samples import Samples
from benchmarks.bars.serving.wire import infer_path

__all__ = ["framings"]


def framings(samples: Samples, limits: Limits) -> st.SearchStrategy[Attempt]:
    """Requests of which little but the framing is wrong.

    Args:
        samples: name the input.
        limits: of the server.
    """
    most = limits.request_mib * 2**20
    body = json.dumps(
        {"inputs": [{"name": samples.name, "datatype": "FP32", "shape": [1], "data": [1]}]}
    ).encode()
    path, size = infer_path().encode(), len(body)
    start = b"POST " + path + b" HTTP/1.1\r\nHost: a\r\n"

    def plain(*headers: bytes, content: bytes = body) -> bytes:
        return start + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + content

    length, chunked = b"Content-Length: %d", b"Transfer-Encoding: chunked"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    ended = [
        plain(length % size, length % (size + 1)),
        plain(length % size, length % size),
        plain(b"Content-Length: -5"),
        plain(b"Content-Length: +5"),
        plain(b"Content-Length: 5, 5"),
        plain(b"Content-Length: 0x10"),
        plain(b"Content-Length: " + b"9" * 30),
        plain(length % size, chunked),
        plain(b"Content-Length: " + b"0" * 5000 + b"%d" % size),
        plain(length % (size - 5)),
        plain(length % 2**40, content=b""),
        plain(length % (most + 1), content=b"x" * (most + 1)),
        plain(chunked, content=chunks),
        plain(chunked, content=b"zz\r\n"),
        plain(chunked, content=b"-1\r\n"),
        plain(chunked, content=b"f" * 17 + b"\r\n"),
        plain(chunked, content=b"1;" + b"e" * 10**5 + b"\r\nx\r\n0\r\n\r\n"),
        plain(chunked, content=b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"),
        plain(chunked, content=b"%x\r\n%b\r\n0\r\n\r\n" % (most + 1, b"x" * (most + 1))),
        plain(chunked, content=chunks[:-2] + b"x: " + b"y" * 10**6 + b"\r\n\r\n"),
        plain(b"Transfer-Encoding: gzip, chunked", content=chunks),
        plain(b"Transfer-Encoding: identity", length % size),
        plain(b"Content-Encoding: gzip", length % 3, content=b"\x1f\x8b\x08"),
        plain(length % 0, content=b""),
        plain(b"Transfer-Encoding : chunked", content=chunks),
        plain(b"Expect: 100-continue", length % size),
        plain(b"Expect: something", length % size),
        plain(b"Connection: close", length % size),
        plain(b"Upgrade: h2c", b"Connection: Upgrade", length % size),
        plain(length % size).replace(b"1.1", b"1.0"),
        plain(b"Connection: close", length % (most + 1), content=b"x" * (most + 1)),
    ]
    whole = st.sampled_from(ended).map(lambda data: Attempt((data,), answers=0))
    cuts = st.tuples(st.integers(1, len(start) + size), st.sampled_from(("half", "gone"))).map(
        lambda pair: Attempt((plain(length % size)[: pair[0]],), pair[1], answers=0)  # type: ignore[arg-type]
    )
    pauses = st.integers(1, len(start) + size).map(
        lambda at: Attempt((plain(length % size)[:at], 0.05, plain(length % size)[at:]))
    )
    stalls = st.integers(len(start), len(start) + size).map(
        lambda at: Attempt((plain(length % size)[:at],), answers=0)
    )
    pipelines = st.integers(2, 200).map(
        lambda n: Attempt((plain(length % size) * n,), answers=n if n <= 60 else 0)
    )
    return st.one_of(
        whole,
        whole,
        whole,
        whole,
        cuts,
        pauses,
        pipelines,
        st.integers(0, 9).flatmap(lambda n: stalls if n == 0 else whole),
    )
