"""What one client may not do to a server, each as bytes on a socket."""

import contextlib
import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from PIL import Image

from deploy.serve.messages import SERVICE, message
from tests.deploy.serve.made import Served, served

READ_TIMEOUT_S = 1.0
INFER, CLASSIFY = "/v2/models/tiny-int8/infer", "/v2/models/tiny-int8/classify"
METADATA = b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def server(folder: Path, bundle: Path) -> Iterator[Served]:
    limits = ("--read-timeout-s", str(READ_TIMEOUT_S), "--keep-alive-s", "2")
    with served(folder, str(bundle), *limits) as server:
        yield server


@pytest.fixture
def image() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), (200, 30, 10)).save(file, "PNG")
    return file.getvalue()


def _post(path: str, body: bytes, *headers: str, length: str | None = None) -> bytes:
    told = ["Host: a", f"Content-Length: {length or len(body)}", *headers]
    return f"POST {path} HTTP/1.1\r\n".encode() + "\r\n".join([*told, "", ""]).encode() + body


def _answers(server: Served, content: bytes, seconds: float = 1) -> bytes:
    """All that comes back until the connection ends, or nothing more comes for a while."""
    answers = b""
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(content)
        sock.settimeout(seconds)
        try:
            while piece := sock.recv(2**16):
                answers += piece
        except TimeoutError:
            pass
    return answers


def _status(answers: bytes) -> int:
    return int(answers.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("top", "status"),
    [("0" * 9 + "1", 200), ("0" * 9 + "1" * 5000, 400), ("00000000011111", 400), ("", 400), ("٣", 400)],
)
def test_top_may_have_any_length(server: Served, image: bytes, top: str, status: int) -> None:
    path = f"{CLASSIFY}?top={''.join(f'%{byte:02x}' for byte in top.encode())}"
    assert _status(_answers(server, _post(path, image))) == status


def test_a_length_may_have_leading_zeros(server: Served, image: bytes) -> None:
    assert _status(_answers(server, _post(CLASSIFY, image, length="0" * 5000 + str(len(image))))) == 200


@pytest.mark.parametrize("length", ["0" * 5000 + "2", "9" * 5000])
def test_the_length_of_the_json_may_have_any_length(server: Served, length: str) -> None:
    assert _status(_answers(server, _post(INFER, b"{}", f"Inference-Header-Content-Length: {length}"))) == 400


@pytest.mark.parametrize(
    "start",
    [
        b"GET /v2 HTTP/1.1\r\nx: ",
        b"GET /",
        f"POST {INFER} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx: ".encode(),
    ],
    ids=["header", "address", "trailer"],
)
def test_what_is_no_body_has_an_end(server: Served, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(start)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            sock.sendall(b"y" * 2**26)


def test_headers_of_a_usual_size_pass(server: Served) -> None:
    assert _status(_answers(server, METADATA.replace(b"Host", b"x: " + b"y" * 30_000 + b"\r\nHost"))) == 200


def test_some_requests_ahead_are_answered_and_thousands_are_not(server: Served) -> None:
    assert _answers(server, METADATA * 50, 3).count(b"HTTP/1.1 200") == 50
    many = _answers(server, METADATA * 2000, 3)
    assert many.count(b"HTTP/1.1 200") < 500
    assert b"HTTP/1.1 400" in many


@pytest.mark.parametrize("path", ["/v2/models/other/infer", "/nothing", "/v2/health/live"])
def test_a_refusal_survives_the_body_that_nobody_read(server: Served, path: str) -> None:
    answers = _answers(server, _post(path, b"x" * 2**23, "Connection: close"))
    assert _status(answers) in (404, 405)
    assert b"connection: close" in answers


def test_a_wish_for_http2_does_not_cost_the_body(server: Served, image: bytes) -> None:
    wish = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
    answers = _answers(server, _post(CLASSIFY, image, *wish) + METADATA)
    assert answers.count(b"HTTP/1.1 200") == 2
    assert json.loads(answers.split(b"\r\n\r\n")[1].split(b"HTTP/1.1")[0])["answers"]


def test_a_client_that_does_not_read_is_left(server: Served) -> None:
    open_files = Path(f"/proc/{server.process.pid}/fd")
    before = len(list(open_files.iterdir()))
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(1)
        for _ in range(500):  # the answers fill what the system keeps of them, and then the server's buffer
            with contextlib.suppress(OSError):
                sock.sendall(METADATA.replace(b"/v2", b"/metrics"))
                time.sleep(0.005)
        until = time.monotonic() + 10 * READ_TIMEOUT_S
        while len(list(open_files.iterdir())) > before and time.monotonic() < until:
            time.sleep(0.1)
        assert len(list(open_files.iterdir())) <= before


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def _stalled_calls(port: int, count: int) -> socket.socket:
    """A connection of gRPC with calls whose messages stop after some bytes (RFC 9113, RFC 7541)."""
    headers = {
        ":method": "POST", ":scheme": "http", ":path": f"/{SERVICE}/ModelInfer", ":authority": "a",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    block = b"".join(
        b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in headers.items()
    )
    message_start = b"\0" + (10**6).to_bytes(4, "big") + b"x" * 100
    sock = socket.create_connection(("127.0.0.1", port), 10)
    calls = [_frame(1, 4, n, block) + _frame(0, 0, n, message_start) for n in range(1, 2 * count, 2)]
    sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"") + b"".join(calls))
    return sock


def test_messages_that_stop_do_not_hold_the_port(server: Served) -> None:
    assert server.grpc_port is not None
    stalled = [_stalled_calls(server.grpc_port, 60) for _ in range(2)]
    time.sleep(2 * READ_TIMEOUT_S)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        live = channel.unary_unary(f"/{SERVICE}/ServerLive", None, message("ServerLiveResponse").FromString)
        assert live(b"", timeout=5 * READ_TIMEOUT_S).live
    assert server.metric("octavo_in_flight") == 0
    for sock in stalled:
        sock.close()


def test_a_spoiled_image_leaves_lines_of_json_only(server: Served) -> None:
    file = io.BytesIO()
    pixels = Image.new("RGB", (20, 20))
    pixels.save(file, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 60)
    assert _status(_answers(server, _post(CLASSIFY, file.getvalue()))) in (200, 400)
    assert server.lines()[-1]["event"] == "request"  # each line is read as JSON


def test_a_broken_frame_leaves_lines_of_json_only(server: Served) -> None:
    assert server.grpc_port is not None
    with socket.create_connection(("127.0.0.1", server.grpc_port), 10) as sock:
        away = _frame(7, 0, 0, (1).to_bytes(4, "big") + b"tell\nWORDS OF MINE")
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"") + away)
        sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while sock.recv(1000):
                pass
    assert all(line["event"] for line in server.lines())
    assert "WORDS OF MINE" not in server.log.read_text()
