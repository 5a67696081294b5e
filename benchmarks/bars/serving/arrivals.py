"""Clients that come by the clock, whether or not the server keeps up: HTTP and gRPC by turns, one process."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

import grpc

from deploy.serve.messages import SERVICE

__all__ = ["Outcome", "Visit", "arrive"]

_WAIT_S = 60.0
_READ = 2**18
_REFUSED_STREAM = "RST_STREAM with error code 7"


@dataclass(frozen=True)
class Visit:
    """Who is asked, and for what.

    Attributes:
        port: of HTTP.
        grpc_port: of gRPC.
        request: of HTTP, as it goes over the wire.
        message: of gRPC, serialized.
        outputs: bytes that every success ends with, over HTTP, or has within, over gRPC.
        rate: arrivals per second.
        seconds: how long they come.
    """

    port: int
    grpc_port: int
    request: bytes
    message: bytes
    outputs: bytes
    rate: float
    seconds: float


@dataclass
class Outcome:
    """What became of them.

    Attributes:
        answers: by status of HTTP or gRPC; other ends have other names.
        taken_s: of successes.
        late_s: the most that an arrival was behind the clock.
        connections: of HTTP, opened.
    """

    answers: Counter[str] = field(default_factory=Counter)
    taken_s: list[float] = field(default_factory=list)
    late_s: float = 0.0
    connections: int = 0

    def percentile_ms(self, percent: int) -> float:
        """Of the time of successes, in milliseconds."""
        return 1e3 * quantiles(self.taken_s, n=100)[percent - 1] if len(self.taken_s) > 1 else 0.0


def arrive(visit: Visit) -> Outcome:
    """Come, and wait for the last answer."""
    return asyncio.run(_arrive(visit))


async def _arrive(visit: Visit) -> Outcome:
    outcome, idle = Outcome(), list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
    began, tasks = time.perf_counter(), set[asyncio.Task[None]]()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{visit.grpc_port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer", None, None)
        for number in range(int(visit.rate * visit.seconds)):
            due = began + number / visit.rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            outcome.late_s = max(outcome.late_s, time.perf_counter() - due)
            visitor = _over_http(visit, idle, outcome) if number % 2 else _over_grpc(visit, call, outcome)
            task = asyncio.create_task(visitor)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return outcome


async def _over_grpc(visit: Visit, call: Any, outcome: Outcome) -> None:
    began, status = time.perf_counter(), "OK"
    try:
        answer = await call(visit.message, timeout=_WAIT_S)
        if visit.outputs not in answer:
            status = "gRPC: other numbers"
    except grpc.aio.AioRpcError as error:
        status = error.code().name
        # A server that runs refuses a stream above its number of them (REFUSED_STREAM, RFC 9113, 8.7);
        # all else of this status is a connection that broke.
        if error.code() is grpc.StatusCode.UNAVAILABLE and _REFUSED_STREAM not in (error.details() or ""):
            status += f": {error.details()}"
    _count(outcome, status, began)


async def _over_http(visit: Visit, idle: list[Any], outcome: Outcome) -> None:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_WAIT_S):
            while idle and idle[-1][0].at_eof():  # the server's patience with it has ended
                idle.pop()[1].close()
            if idle:
                reader, writer = idle.pop()
            else:
                outcome.connections += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", visit.port, limit=_READ)
            writer.write(visit.request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            await writer.drain()
    except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError) as error:
        _count(outcome, f"HTTP: {type(error).__name__}", began)
        return
    if b"connection: close" in head:
        writer.close()
    else:
        idle.append((reader, writer))
    status = head.split()[1].decode()
    _count(
        outcome, status if status != "200" or body.endswith(visit.outputs) else "HTTP: other numbers", began
    )


def _count(outcome: Outcome, status: str, began: float) -> None:
    outcome.answers[status] += 1
    if status in ("200", "OK"):
        outcome.taken_s.append(time.perf_counter() - began)
