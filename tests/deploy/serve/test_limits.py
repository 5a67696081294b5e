"""What a server refuses, how long it waits, how it ends, and what it does not start with."""

import http.client
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.deploy.serve.made import INFER, json_request, make_bundle, pixels, served


def test_a_full_queue_refuses_with_429(folder: Path, bundle: Path) -> None:
    with served(folder, str(bundle), "--queue", "1", "--read-timeout-s", "5") as server:
        slow = http.client.HTTPConnection("127.0.0.1", server.port)
        slow.putrequest("POST", INFER)
        slow.putheader("content-length", "100")
        slow.endheaders()  # let in, and its body does not come
        until = time.monotonic() + 5
        while server.metric("octavo_in_flight") < 1 and time.monotonic() < until:
            time.sleep(0.01)
        status, answer, headers = server.ask("POST", INFER, json_request(pixels(1)))
        assert (status, headers.get("retry-after")) == (429, "1"), answer
        slow.close()


def test_slow_clients_are_sent_away(folder: Path, bundle: Path) -> None:
    with served(folder, str(bundle), "--read-timeout-s", "0.3") as server:
        body = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        body.putrequest("POST", INFER)
        body.putheader("content-length", "100")
        body.endheaders()
        assert body.getresponse().status == 408
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as half:
            half.sendall(b"POST /v2 HTTP/1.1\r\nx: ")
            assert half.recv(100) == b""  # closed


def test_a_request_that_is_not_done_in_time_gets_503(folder: Path, bundle: Path) -> None:
    delay = ("--batch-delay-ms", "5000", "--timeout-s", "0.2")
    with served(folder, str(bundle), *delay) as server:
        status, answer, _ = server.ask("POST", INFER, json_request(pixels(1)))
        assert (status, "not done in time" in answer.decode()) == (503, True)


def test_the_end_is_announced_and_answers_what_is_inside(folder: Path, bundle: Path) -> None:
    with served(folder, str(bundle), "--batch-delay-ms", "800", "--drain-s", "0.5") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("POST", INFER, json_request(pixels(1)))
        time.sleep(0.2)
        server.process.terminate()
        until = time.monotonic() + 5
        while server.ask("GET", "/v2/health/ready")[0] == 200 and time.monotonic() < until:
            time.sleep(0.02)
        assert server.ask("GET", "/v2/health/ready")[0] == 503
        assert server.ask("GET", "/v2/health/live")[0] == 200
        answer = connection.getresponse()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert server.process.wait(20) == 0
        assert [line["event"] for line in server.lines() if line["event"] != "request"][-2:] == [
            "draining",
            "ended",
        ]


def test_what_cannot_be_served_ends_with_one_line(folder: Path, bundle: Path) -> None:
    fixed = make_bundle(folder / "fixed.zip", batch=4)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, words in (
            (("nope.zip",), "does not exist"),
            ((str(fixed),), "no fewer than 4 samples"),
            ((str(bundle), str(bundle)), "two bundles are called 'tiny-int8'"),
            ((f"a b={bundle}",), "cannot be a model's name"),
            ((str(bundle), "--port", port), f"cannot listen at 127.0.0.1 port {port}"),
            ((str(bundle), "--port", "0", "--grpc-port", port), "gRPC cannot listen"),
            ((str(bundle), "--queue", "0"), "--queue is 0; allowed is 1 to 100000"),
            ((str(bundle), "--target", "ort-arm64"), "not for ort-arm64"),
        ):
            command = ["octavo", "serve", *arguments]
            done = subprocess.run(
                [sys.executable, "-m", "octavo", *command[1:]],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 2, done
            assert words in done.stderr
            assert "Traceback" not in done.stderr


def test_a_second_ctrl_c_ends_it_at_once_in_one_line(folder: Path, bundle: Path) -> None:
    with served(folder, str(bundle), "--drain-s", "60") as server:
        server.process.send_signal(signal.SIGINT)
        until = time.monotonic() + 5
        while "draining" not in server.log.read_text() and time.monotonic() < until:
            time.sleep(0.02)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 130
        assert server.log.read_text().endswith("deploy.serve: ended without waiting for requests\n")
        assert "Traceback" not in server.log.read_text()
