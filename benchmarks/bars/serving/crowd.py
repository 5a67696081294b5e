"""Clients that ask again as soon as they are answered, until the server has gone; each keeps account."""

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from benchmarks.bars.serving.samples import Samples
from benchmarks.bars.serving.served import Served
from benchmarks.bars.serving.wire import binary_request, connect, infer_message, read_answer, tensor_of
from deploy.serve.messages import SERVICE, message

__all__ = ["Account", "crowd"]

_KEPT, _NEW, _SLOW, _GRPC = 3, 2, 1, 2  # clients of each kind
_THINKS_S = 0.4  # of the one that does not ask again at once, at most
_WAIT_S = 60.0
_REFUSALS = (429, 503)
_REFUSED = ("the server is ending; ask another",)


@dataclass
class Account:
    """What the clients got.

    Attributes:
        answered: answers, by status of HTTP or of gRPC.
        wrong: answers with other numbers, or of a status that is neither success nor refusal.
        lost: requests sent over a connection that was there, and not answered.
    """

    answered: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@contextmanager
def crowd(server: Served, samples: Samples, seed: int) -> Iterator[Account]:
    """Have clients ask while the block lasts, and wait for the last of them at its end.

    Args:
        server: asked until it refuses connections.
        samples: what is sent, and what must come back.
        seed: of the pauses.
    """
    account = Account()
    plain = binary_request(samples.name, samples.inputs)
    closing = binary_request(samples.name, samples.inputs, {"Connection": "close"})
    work: list[tuple[Any, ...]] = [
        *((_http, server.port, plain, samples, account, 0.0, seed) for _ in range(_KEPT)),
        *((_http, server.port, closing, samples, account, 0.0, seed) for _ in range(_NEW)),
        *((_http, server.port, plain, samples, account, _THINKS_S, seed + n) for n in range(_SLOW)),
        *((_grpc, server.grpc_port, samples, account) for _ in range(_GRPC)),
    ]
    threads = [threading.Thread(target=task, args=given, daemon=True) for task, *given in work]
    for thread in threads:
        thread.start()
    try:
        yield account
    finally:
        for thread in threads:
            thread.join(_WAIT_S)
        if any(thread.is_alive() for thread in threads):
            account.lost.append(f"a client still waits after {_WAIT_S:g} s")


def _http(port: int, request: bytes, samples: Samples, account: Account, thinks_s: float, seed: int) -> None:
    pauses = random.Random(seed)
    while True:
        try:
            sock = connect(port, _WAIT_S)
        except OSError:  # the server has gone
            return
        with sock:
            last = False
            while not last:
                last = _ask(sock, request, samples, account)
                if thinks_s and not last:
                    time.sleep(pauses.uniform(0, thinks_s))


def _ask(sock: socket.socket, request: bytes, samples: Samples, account: Account) -> bool:
    """Whether the connection ends with this answer."""
    sent = False
    try:
        sock.sendall(request)
        sent = True
        answer, _ = read_answer(sock)
    except (OSError, EOFError) as error:
        how = f"{'a new' if b'Connection: close' in request[:500] else 'a kept'} connection"
        account.lost.append(
            f"HTTP, {how}, {'sent' if sent else 'half sent'}: {type(error).__name__}: {error}"
        )
        return True
    account.answered[str(answer.status)] += 1
    if answer.status == 200:
        if tensor_of(answer).tobytes() != samples.outputs.tobytes():
            account.wrong.append("HTTP gives other numbers")
    elif answer.status not in _REFUSALS:
        account.wrong.append(f"HTTP answers {answer.status}: {answer.body[:100]!r}")
    return answer.last


def _grpc(port: int, samples: Samples, account: Account) -> None:
    content = infer_message(samples.name, samples.inputs).SerializeToString()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer", None, None)
        while True:
            try:
                reply = message("ModelInferResponse").FromString(call(content, timeout=_WAIT_S))
            except grpc.RpcError as error:
                told = error.details() or ""
                gone = error.code() is grpc.StatusCode.UNAVAILABLE  # which tells a client to ask elsewhere
                if gone and told.startswith("failed to connect"):
                    return
                if told in _REFUSED or error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    account.answered[error.code().name] += 1
                else:
                    account.lost.append(f"gRPC: {error.code().name}: {told}")
                if gone:
                    return
                continue
            account.answered["OK"] += 1
            if reply.raw_output_contents[0] != samples.outputs.tobytes():
                account.wrong.append("gRPC gives other numbers")
