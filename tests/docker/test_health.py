import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

PROGRAM = Path(__file__).parents[2] / "docker/health.py"


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/v2/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v2/health/ready"
        server.shutdown()


def check(url: str) -> int:
    # without the environment's packages, as the image calls it
    return subprocess.run(
        [sys.executable, "-S", PROGRAM], env={"OCTAVO_HEALTH_URL": url}, check=False
    ).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_is_healthy_only_when_ready(status: int, code: int) -> None:
    with answering(status) as url:
        assert check(url) == code


def test_is_not_healthy_where_nobody_answers() -> None:
    with answering(200) as url:
        pass
    assert check(url) == 1
