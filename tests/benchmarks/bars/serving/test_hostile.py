"""The judge of hostile requests, against servers that are known to be bad."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.bars.serving.attempt import Attempt
from benchmarks.bars.serving.hostile import Broken, Siege, exchange
from benchmarks.bars.serving.leaks import leak_in

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)


def _answer(status: int, body: str) -> bytes:
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_answer(500, "a bug"), "status 500"),
        (_answer(502, ""), "status 502"),
        (_answer(400, 'File "x", line 3'), "tells"),
        (_answer(404, str(Path(__file__).parents[4] / "deploy" / "serve")), "tells"),
        (_answer(400, "ValueError: no"), "tells"),
        (b"", "EOFError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "EOFError"),
    ],
)
def test_a_bad_answer_is_told(answer: bytes, why: str) -> None:
    with _answering(answer) as port, pytest.raises(Broken, match=why):
        exchange(port, Siege(), Attempt((REQUEST,)))


@pytest.mark.parametrize("status", [200, 400, 404, 413, 429, 503])
def test_a_refusal_is_none(status: int) -> None:
    siege = Siege()
    with _answering(_answer(status, '{"error":"the model has no input; ask /v2/models"}')) as port:
        exchange(port, siege, Attempt((REQUEST,)))
    assert siege.statuses == {str(status): 1}


def test_words_of_the_protocol_are_no_leak() -> None:
    assert leak_in('{"error":"there is no model \'x\'; ask /v2/models, error 5"}') is None
