"""A request as bytes, and its answer read from a socket: no client library between clock and server."""

import contextlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bars.serving.served import MODEL
from deploy.serve.messages import message

__all__ = [
    "Answer",
    "binary_request",
    "connect",
    "infer_message",
    "infer_path",
    "read_answer",
    "request_bytes",
    "tensor_of",
]

_PIECE = 2**18
_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Answer:
    """An answer of HTTP.

    Attributes:
        status: of it.
        headers: by name in small letters.
        body: of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def last(self) -> bool:
        """Whether the server closes the connection behind it."""
        return "close" in self.headers.get("connection", "").lower()


def infer_path(verb: str = "infer") -> str:
    """Where the model is asked."""
    return f"/v2/models/{MODEL}/{verb}"


def request_bytes(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A POST as it goes over the wire."""
    told = {"Host": "octavo", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def binary_request(name: str, array: NDArray[np.float32], headers: Mapping[str, str] | None = None) -> bytes:
    """A POST of a float32 tensor as bytes, that wants its answer as bytes."""
    raw = np.ascontiguousarray(array, "<f4").tobytes()
    told = {"name": name, "datatype": "FP32", "shape": list(array.shape)}
    entry = {**told, "parameters": {"binary_data_size": len(raw)}}
    text = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    return request_bytes(infer_path(), text + raw, {_LENGTH: str(len(text)), **(headers or {})})


def infer_message(name: str, array: NDArray[np.float32]) -> Any:
    """A ``ModelInferRequest`` of a float32 tensor as raw contents."""
    request = message("ModelInferRequest")(model_name=MODEL, id="a")
    request.inputs.add(name=name, datatype="FP32", shape=array.shape)
    request.raw_input_contents.append(np.ascontiguousarray(array, "<f4").tobytes())
    return request


def tensor_of(answer: Answer) -> NDArray[np.float32]:
    """The only output of an answer with bytes."""
    length = int(answer.headers[_LENGTH])
    (output,) = json.loads(answer.body[:length])["outputs"]
    return np.frombuffer(answer.body[length:], "<f4").reshape(output["shape"])


def connect(port: int, timeout_s: float = 60.0) -> socket.socket:
    """A connection to this machine."""
    sock = socket.create_connection(("127.0.0.1", port), timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_answer(sock: socket.socket, before: bytes = b"") -> tuple[Answer, bytes]:
    """Read one answer.

    Args:
        sock: from it.
        before: what was read already.

    Returns:
        The answer, and what was read behind it.

    Raises:
        EOFError: the connection ended before the answer did.
        OSError: it was reset, or nothing came in time.
    """
    data = bytearray(before)
    while (end := data.find(b"\r\n\r\n")) < 0:
        _read_on(sock, data)
    first, *lines = bytes(data[:end]).decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    status = int(first.split()[1])
    if 100 <= status < 200:
        return read_answer(sock, bytes(data[end + 4 :]))
    length = 0
    with contextlib.suppress(ValueError):
        length = int(headers.get("content-length", "0"))
    whole = end + 4 + length
    while len(data) < whole:
        _read_on(sock, data)
    return Answer(status, headers, bytes(data[end + 4 : whole])), bytes(data[whole:])


def _read_on(sock: socket.socket, data: bytearray) -> None:
    piece = sock.recv(_PIECE)
    if not piece:
        raise EOFError("the connection ended before the answer did")
    data += piece
