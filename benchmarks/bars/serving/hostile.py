"""Requests that mean harm, drawn by hypothesis: none may break the server or learn of its inside."""

import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from benchmarks.bars.bar import Bar
from benchmarks.bars.serving.attempt import Attempt, Limits
from benchmarks.bars.serving.hostile_grpc import FRAMES, GRPC, Call
from benchmarks.bars.serving.hostile_http import HTTP
from benchmarks.bars.serving.leaks import leak_in
from benchmarks.bars.serving.samples import Samples, make_samples
from benchmarks.bars.serving.served import Served, served
from benchmarks.bars.serving.wire import binary_request, connect, infer_message, read_answer, tensor_of
from benchmarks.peers.process import Say
from deploy.serve.messages import SERVICE, message

__all__ = ["Broken", "Siege", "besiege", "exchange", "hostile_bars"]

_WAIT_S = 15.0
_MOST_MIB = 384  # the 256 MiB of bodies that the settings let in at a time, and half as much
_KINDS = {**HTTP, **GRPC, **FRAMES}
_BAD_CODES = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)


class Broken(Exception):
    """A request got through to something."""


@dataclass
class Siege:
    """What became of the requests.

    Attributes:
        sent: how many, by kind.
        statuses: of the answers.
        broken: the smallest request of a kind that got through, in words.
        unwell: what was wrong when a good request was sent after a kind.
        before_mib: memory of the server.
        after_mib: likewise.
        most_mib: likewise.
    """

    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    unwell: list[str] = field(default_factory=list)
    before_mib: float = 0.0
    after_mib: float = 0.0
    most_mib: float = 0.0


def hostile_bars(bundle: Path, folder: Path, requests: int, start: int, say: Say) -> list[Bar]:
    """Send them.

    Args:
        bundle: served.
        folder: for files on the way.
        requests: about as many.
        start: seed of all choices.
        say: told what happens.
    """
    limits = Limits()
    with served(bundle, folder / "hostile.log", limits.options) as server:
        siege = besiege(server, make_samples(bundle), limits, requests, start, say)
        bugs = sum(line.get("event") == "bug" or "traceback" in line for line in server.lines())
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(siege.statuses.items()))
    grown = siege.after_mib - siege.before_mib
    memory = f"{siege.before_mib:.0f} MiB before, {siege.after_mib:.0f} after, at most {siege.most_mib:.0f}"
    return [
        Bar("hostile requests", "at least", 1000, siege.sent.total(), digits=0, remark=counts),
        Bar(
            "… that broke something or learned of it",
            "at most",
            0,
            len(siege.broken),
            digits=0,
            remark="; ".join(siege.broken),
        ),
        Bar(
            "… good requests after them that failed",
            "at most",
            0,
            len(siege.unwell),
            digits=0,
            remark="; ".join(siege.unwell),
        ),
        Bar("… tracebacks in the server's log", "at most", 0, bugs, digits=0),
        Bar(
            "… memory afterwards, more than before",
            "at most",
            _MOST_MIB,
            grown,
            " MiB",
            digits=0,
            remark=memory,
        ),
    ]


def besiege(server: Served, samples: Samples, limits: Limits, requests: int, start: int, say: Say) -> Siege:
    """Send about so many requests, the same number of each kind, and a good one after each kind.

    Raises:
        Broken: the server fails a good request before the first.
    """
    siege = Siege()
    if wrong := _unwell(server, samples):
        raise Broken(wrong)
    siege.before_mib = server.rss_mib()
    for kind, make in _KINDS.items():
        say(f"hostile: {kind}")
        strategy: Any = make(samples, limits)
        broken = _drawn(strategy, -(-requests // len(_KINDS)), start, _sender(server, siege, kind))
        siege.broken += [f"{kind}: {broken}"] if broken else []
        if wrong := _unwell(server, samples):
            siege.unwell.append(f"after {kind}: {wrong}")
        siege.most_mib = max(siege.most_mib, server.rss_mib())
    siege.after_mib = server.rss_mib()
    return siege


def _drawn(strategy: st.SearchStrategy[Any], count: int, start: int, send: Callable[[Any], None]) -> str:
    """Draw so many, and where one breaks something look for the smallest that does."""

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def each(attempt: Any) -> None:
        send(attempt)

    try:
        each()
    except Broken as error:
        return str(error)
    return ""


def _sender(server: Served, siege: Siege, kind: str) -> Callable[[Any], None]:
    def send(attempt: Attempt | Call) -> None:
        siege.sent[kind] += 1
        if isinstance(attempt, Call):
            _call(server, siege, attempt)
        else:
            exchange(server.grpc_port if kind in FRAMES else server.port, siege, attempt, kind in FRAMES)
        if server.process.poll() is not None:
            raise Broken(f"the server ended with {server.process.returncode} at {attempt}")

    return send


def exchange(port: int, siege: Siege, attempt: Attempt, deaf: bool = False) -> None:
    """Send on a connection of its own, and judge what comes back.

    Args:
        port: to it.
        siege: where the statuses are counted.
        attempt: what is sent.
        deaf: do not wait for an answer.

    Raises:
        Broken: a status of a broken server, an answer that tells too much, or none where one is due.
    """
    try:
        sock = connect(port, _WAIT_S)
    except OSError as error:
        raise Broken(f"no connection: {error}") from error
    with sock:
        sent_all = _send(sock, attempt)
        if attempt.end == "gone":
            siege.statuses["not waited for"] += 1
            return
        if deaf:
            return
        left, count = b"", 0
        try:
            while count < max(1, attempt.answers):
                answer, left = read_answer(sock, left)
                count += 1
                siege.statuses[str(answer.status)] += 1
                told = answer.body.decode("utf-8", "replace") + repr(answer.headers)
                if answer.status >= 500 and answer.status != 503:
                    raise Broken(f"status {answer.status}: {told[:200]} for {attempt}")
                if leak := leak_in(told):
                    raise Broken(f"the answer tells '{leak}' for {attempt}")
                if answer.last:
                    break
        except TimeoutError as error:
            raise Broken(f"no answer within {_WAIT_S:g} s for {attempt}") from error
        except (EOFError, OSError, ValueError, IndexError) as error:
            siege.statuses["closed"] += 1
            if attempt.answers and sent_all:
                raise Broken(f"{count} answers, then {type(error).__name__} for {attempt}") from error


def _send(sock: socket.socket, attempt: Attempt) -> bool:
    try:
        for piece in attempt.pieces:
            if isinstance(piece, float):
                time.sleep(piece)
            else:
                sock.sendall(piece)
        if attempt.end == "half":
            sock.shutdown(socket.SHUT_WR)
    except OSError:  # the server need not listen to all of it
        return False
    return True


def _call(server: Served, siege: Siege, call: Call) -> None:
    code, told = grpc.StatusCode.OK, ""
    try:
        _channel(server).unary_unary(call.method, None, None)(call.content, timeout=_WAIT_S)
    except grpc.RpcError as error:
        code, told = error.code(), error.details() or ""
    except ValueError:  # grpcio's client refuses it itself
        siege.statuses["not sent"] += 1
        return
    siege.statuses[code.name] += 1
    if code in _BAD_CODES or (code is grpc.StatusCode.DEADLINE_EXCEEDED and "did not come" not in told):
        raise Broken(f"status {code.name}: {told[:200]} for {call}")
    if leak := leak_in(told):
        raise Broken(f"the answer tells '{leak}' for {call}")


_CHANNELS: dict[int, grpc.Channel] = {}


def _channel(server: Served) -> grpc.Channel:
    if server.grpc_port not in _CHANNELS:
        _CHANNELS[server.grpc_port] = grpc.insecure_channel(
            f"127.0.0.1:{server.grpc_port}", options=[("grpc.max_receive_message_length", -1)]
        )
    return _CHANNELS[server.grpc_port]


def _unwell(server: Served, samples: Samples) -> str:
    """What is wrong with good requests over HTTP and gRPC, or ''."""
    try:
        with connect(server.port, _WAIT_S) as sock:
            sock.sendall(binary_request(samples.name, samples.inputs))
            answer, _ = read_answer(sock)
        if answer.status != 200 or tensor_of(answer).tobytes() != samples.outputs.tobytes():
            return f"HTTP answers {answer.status}, or other numbers"
        content = infer_message(samples.name, samples.inputs).SerializeToString()
        reply = message("ModelInferResponse").FromString(
            _channel(server).unary_unary(f"/{SERVICE}/ModelInfer", None, None)(content, timeout=_WAIT_S)
        )
        return "" if reply.raw_output_contents[0] == samples.outputs.tobytes() else "gRPC gives other numbers"
    except (OSError, EOFError, grpc.RpcError) as error:
        return f"{type(error).__name__}: {error}"[:200]
