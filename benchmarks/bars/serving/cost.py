"""What the server costs beside ONNX Runtime called in process, with the same threads.

Both are measured in turns, so that what else the machine does meets both; every ratio is of one round, and
what is told is the median of the rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.bars.bar import Bar
from benchmarks.bars.serving.loops import Clients, InProcess, Protocol, one_process
from benchmarks.bars.serving.samples import make_samples
from benchmarks.bars.serving.served import served
from benchmarks.bars.serving.wire import binary_request, infer_message
from benchmarks.peers.process import Say

__all__ = ["Round", "cost_bars", "cost_of"]

_THREADS = 1
_SECONDS = 0.7  # short, so that what else the machine does meets all loops of a round
_CONNECTIONS = (1, 2, 3)
_ROWS = (1, 4)
"""Of a call in process: what a client sends, and the server's ``max_batch``, whichever is faster."""

_PROTOCOLS: dict[Protocol, str] = {"http": "HTTP", "grpc": "gRPC"}
_RATIO, _FIXED_MS, _LEAST_PERCENT = 1.15, 3, 85


@dataclass(frozen=True)
class Round:
    """What was found in one round.

    Attributes:
        call_ms: median of a call in process with one row.
        calls: rows per second in process, the best of the numbers of rows.
        request_ms: median of one client's requests, by protocol.
        requests: per second, the best of the numbers of connections, by protocol.
    """

    call_ms: float
    calls: float
    request_ms: dict[Protocol, float]
    requests: dict[Protocol, float]


def cost_bars(bundle: Path, folder: Path, rounds: int, say: Say) -> list[Bar]:
    """Measure in so many rounds.

    Args:
        bundle: served, and run in process.
        folder: for files on the way.
        rounds: how many.
        say: told what happens.
    """
    return cost_of(measure(bundle, folder, rounds, say))


def measure(bundle: Path, folder: Path, rounds: int, say: Say, seconds: float = _SECONDS) -> list[Round]:
    """The rounds; each loop takes so many seconds."""
    samples, found = make_samples(bundle), []
    inside = InProcess(bundle, _THREADS)
    options = ["--workers", "1", "--threads", str(_THREADS)]
    with inside.pool, one_process() as pool, served(bundle, folder / "cost.log", options) as server:
        clients = Clients(
            server.port,
            server.grpc_port,
            binary_request(samples.name, samples.inputs),
            infer_message(samples.name, samples.inputs).SerializeToString(),
            pool,
        )
        for number in range(rounds):
            say(f"cost: round {number + 1} of {rounds}")
            found.append(_round(inside, clients, seconds))
    return found


def _round(inside: InProcess, clients: Clients, seconds: float) -> Round:
    calls = {rows: inside.loop(rows, seconds) for rows in _ROWS}
    request_ms, requests = {}, {}
    for protocol in _PROTOCOLS:
        loops = {n: clients.loop(protocol, n, seconds) for n in _CONNECTIONS}
        request_ms[protocol] = 1e3 * median(loops[1])
        requests[protocol] = max(n * len(taken) / sum(taken) for n, taken in loops.items())
    best = max(rows * len(taken) / sum(taken) for rows, taken in calls.items())
    return Round(1e3 * median(calls[1]), best, request_ms, requests)


def cost_of(rounds: Sequence[Round]) -> list[Bar]:
    """The bars of the rounds."""
    bars = []
    call_ms = median(of.call_ms for of in rounds)
    for protocol, name in _PROTOCOLS.items():
        beyond = [of.request_ms[protocol] - _RATIO * of.call_ms for of in rounds]
        ratios = [of.request_ms[protocol] / of.call_ms for of in rounds]
        remark = (
            f"{median(of.request_ms[protocol] for of in rounds):.2f} ms, in process {call_ms:.2f} ms; ratio "
            f"{_spread(ratios, 3)}; beyond {_spread(beyond, 2)} ms"
        )
        what = f"{name}, one client: p50 beyond {_RATIO:g} × in process"
        bars.append(Bar(what, "at most", _FIXED_MS, median(beyond), " ms", remark=remark))
    for protocol, name in _PROTOCOLS.items():
        shares = [100 * of.requests[protocol] / of.calls for of in rounds]
        remark = (
            f"{median(of.requests[protocol] for of in rounds):.1f} per second, in process "
            f"{median(of.calls for of in rounds):.1f}; {_spread(shares, 1)} %"
        )
        what = f"{name}: throughput, share of in process"
        bars.append(Bar(what, "at least", _LEAST_PERCENT, median(shares), " %", 1, remark))
    return bars


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
