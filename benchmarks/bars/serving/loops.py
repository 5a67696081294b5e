"""Closed loops, each in a process of its own: ONNX Runtime called in process, and clients of the server.

Parts of a request come ready made, and of an answer only the status is looked at, so that a client takes as
little of the processor as it can.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import grpc
import numpy as np

from benchmarks.bars.serving.wire import connect, read_answer
from deploy.bundle import load_bundle
from deploy.serve.messages import SERVICE
from quant.errors import InternalError

__all__ = ["Clients", "InProcess", "Protocol"]

Protocol = Literal["http", "grpc"]
_WARM_UP = 3
_SEED = 0


@dataclass(frozen=True)
class Clients:
    """A process of clients of one server.

    Attributes:
        port: of HTTP.
        grpc_port: of gRPC.
        request: of HTTP, as it goes over the wire.
        message: of gRPC, serialized.
        pool: the process.
    """

    port: int
    grpc_port: int
    request: bytes
    message: bytes
    pool: ProcessPoolExecutor

    def loop(self, protocol: Protocol, connections: int, seconds: float) -> list[float]:
        """Ask over so many connections at a time.

        Returns:
            Seconds of each request.

        Raises:
            InternalError: one was not answered with success.
        """
        port, content = {"http": (self.port, self.request), "grpc": (self.grpc_port, self.message)}[protocol]
        return self.pool.submit(_clients, protocol, port, content, connections, seconds).result()


class InProcess:
    """A process that calls ONNX Runtime itself.

    Args:
        bundle: run.
        threads: of ONNX Runtime.
    """

    def __init__(self, bundle: Path, threads: int) -> None:
        self.pool = one_process(_load, (bundle, threads))

    def loop(self, rows: int, seconds: float) -> list[float]:
        """Call with so many rows at a time; seconds of each call."""
        return self.pool.submit(_calls, rows, seconds).result()


def one_process(begin: Callable[..., None] | None = None, given: tuple[Any, ...] = ()) -> ProcessPoolExecutor:
    """A process that starts afresh; a copy of this one would have its threads' locks."""
    return ProcessPoolExecutor(1, get_context("spawn"), begin, given)


_OPEN: dict[str, Any] = {}
_UNTIL_THE_END = ExitStack()


def _load(bundle: Path, threads: int) -> None:
    loaded = load_bundle(bundle)
    runner = _UNTIL_THE_END.enter_context(loaded.runner(loaded.session_settings(threads)))
    _OPEN.update(runner=runner, taken=loaded.manifest.model_input)


def _calls(rows: int, seconds: float) -> list[float]:
    runner, taken = _OPEN["runner"], _OPEN["taken"]
    inputs = np.random.default_rng(_SEED).standard_normal((rows, *taken.shape[1:])).astype(np.float32)
    return _timed(lambda: runner.infer({taken.name: inputs}), seconds)


def _timed(call: Callable[[], object], seconds: float) -> list[float]:
    for _ in range(_WARM_UP):
        call()
    taken, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        call()
        taken.append(time.perf_counter() - began)
    return taken


def _clients(protocol: Protocol, port: int, content: bytes, connections: int, seconds: float) -> list[float]:
    found: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda: found.append(_client(protocol, port, content, seconds)))
        for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) < connections:
        raise InternalError(f"a client of {protocol} got no answer")
    return [taken for of_one in found for taken in of_one]


def _client(protocol: Protocol, port: int, content: bytes, seconds: float) -> list[float]:
    if protocol == "grpc":
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer", None, None)
            return _timed(lambda: call(content), seconds)
    with connect(port) as sock:

        def ask() -> None:
            sock.sendall(content)
            answer, _ = read_answer(sock)
            if answer.status != 200:
                raise InternalError(f"the server answers {answer.status}: {answer.body[:200]!r}")

        return _timed(ask, seconds)
