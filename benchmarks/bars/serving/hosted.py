"""The same bundle in KServe's own server (`deploy.serve.kserve_host`), in an environment that has KServe."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bars.serving.served import MODEL, Served
from benchmarks.peers.process import PeerFailed

__all__ = ["hosted"]

_ROOT = Path(__file__).resolve().parents[3]
_START_S = 120.0
_LOOK_S = 0.2


@contextmanager
def hosted(python: Path, bundle: Path, log: Path) -> Iterator[Served]:
    """Start KServe's server and wait until it is ready; it has ended when the block has.

    Args:
        python: of the environment.
        bundle: served as :data:`MODEL`.
        log: where its lines go.

    Raises:
        PeerFailed: it ends, or does not become ready.
    """
    http, grpc = _free_port(), _free_port()
    command = [str(python), "-m", "deploy.serve.kserve_host", str(bundle.resolve())]
    options = ["--model_name", MODEL, "--http_port", str(http), "--grpc_port", str(grpc)]
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )
    try:
        until = time.monotonic() + _START_S
        while not _ready(http):
            if process.poll() is not None or time.monotonic() > until:
                last = (log.read_text(errors="replace").splitlines() or ["it said nothing"])[-1]
                raise PeerFailed(f"KServe's server did not start: {last}")
            time.sleep(_LOOK_S)
        yield Served(process, log, http, grpc)
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/{MODEL}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
