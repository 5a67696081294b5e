"""A server in a process of its own, as a user starts it."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.errors import InternalError, Unsupported

__all__ = ["MODEL", "Served", "served"]

MODEL = "model"
"""What requests call the bundle."""

_ROOT = Path(__file__).resolve().parents[3]
_START_S = 60.0
_END_S = 60.0
_LOOK_S = 0.02


@dataclass
class Served:
    """A running server.

    Attributes:
        process: it.
        log: the file with its lines.
        port: of HTTP.
        grpc_port: of gRPC.
    """

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0
    grpc_port: int = 0

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged; what is no JSON has the key ``text`` only."""
        return [_line(text) for text in self.log.read_text(errors="replace").splitlines() if text.strip()]

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels.

        Raises:
            InternalError: there is none of this name.
        """
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        values = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", text, re.M)
        if not values:
            raise InternalError(f"the server has no metric {name}")
        return sum(map(float, values))

    def rss_mib(self) -> float:
        """Memory that it holds, in MiB; 0 where it has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0.0
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)
        return int(found[1]) / 1024 if found else 0.0

    def wait(self, seconds: float = _END_S) -> int:
        """Wait for its end; its exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended.
        """
        return self.process.wait(seconds)


@contextmanager
def served(bundle: Path, log: Path, options: Sequence[str] = ()) -> Iterator[Served]:
    """Start a server and wait until it is ready; it has ended when the block has.

    Args:
        bundle: served as :data:`MODEL`, at free ports.
        log: where its lines go.
        options: of ``python -m deploy.serve`` besides.

    Raises:
        Unsupported: it ends, or does not become ready.
    """
    command = [
        sys.executable,
        "-m",
        "deploy.serve",
        f"{MODEL}={bundle.resolve()}",
        "--port",
        "0",
        "--grpc-port",
        "0",
    ]
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stderr=lines,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )
    server = Served(process, log)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: Served) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and server.process.poll() is None:
        events = {line.get("event"): line for line in server.lines()}
        if "ready" in events:
            server.port, server.grpc_port = events["listening"]["port"], events["listening"]["grpc_port"]
            return
        time.sleep(_LOOK_S)
    last = (server.log.read_text(errors="replace").splitlines() or ["it said nothing"])[-1]
    raise Unsupported(f"the server did not start: {last}")


def _line(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    return told if isinstance(told, dict) else {"text": text}
