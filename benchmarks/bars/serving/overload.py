"""Twice what the server can do, for minutes: it answers what it lets in, refuses the rest, does not grow."""

import time
from concurrent.futures import Future
from pathlib import Path
from statistics import median

from benchmarks.bars.bar import Bar
from benchmarks.bars.serving.arrivals import Outcome, Visit, arrive
from benchmarks.bars.serving.loops import Clients, one_process
from benchmarks.bars.serving.samples import make_samples
from benchmarks.bars.serving.served import Served, served
from benchmarks.bars.serving.wire import binary_request, infer_message
from benchmarks.peers.process import Say

__all__ = ["memory_bars", "overload_bars"]

_TIMES = 2
_CAPACITY_S = 5.0
_FLAT_PERCENT = 5
_DONE = ("200", "OK")
_REFUSED = ("429", "503", "RESOURCE_EXHAUSTED", "UNAVAILABLE")
_LATEST_S = 0.5


def overload_bars(bundle: Path, folder: Path, minutes: float, say: Say) -> list[Bar]:
    """Measure what it can do, then ask for twice as much.

    Args:
        bundle: served.
        folder: for files on the way.
        minutes: how long.
        say: told what happens.
    """
    samples = make_samples(bundle)
    request = binary_request(samples.name, samples.inputs)
    content = infer_message(samples.name, samples.inputs).SerializeToString()
    with served(bundle, folder / "overload.log") as server, one_process() as pool:
        clients = Clients(server.port, server.grpc_port, request, content, pool)
        loops = {n: clients.loop("http", n, _CAPACITY_S) for n in (2, 4)}
        capacity = max(n * len(taken) / sum(taken) for n, taken in loops.items())
        rate = _TIMES * capacity
        say(f"overload: {rate:.1f} per second for {minutes:g} minutes; closed loops got {capacity:.1f}")
        before = server.metric("octavo_accepted_total")
        visit = Visit(
            *(server.port, server.grpc_port, request, content),
            *(samples.outputs.tobytes(), rate, 60 * minutes),
        )
        future = pool.submit(arrive, visit)
        memory = _memory(server, future, say)
        outcome = future.result()
        accepted = server.metric("octavo_accepted_total") - before
        bugs = sum("traceback" in line or "text" in line for line in server.lines())
    return [*_answers(outcome, accepted, visit, bugs), *memory_bars(memory)]


def _memory(server: Served, future: "Future[Outcome]", say: Say) -> list[float]:
    """MiB, each second; ends with the server where that ends."""
    found: list[float] = []
    while not future.done():
        found.append(server.rss_mib())
        if not found[-1]:
            break
        if len(found) % 60 == 0:
            say(f"overload: minute {len(found) // 60}, {found[-1]:.1f} MiB")
        time.sleep(1)
    return found


def _answers(outcome: Outcome, accepted: float, visit: Visit, bugs: int) -> list[Bar]:
    done = sum(outcome.answers[status] for status in _DONE)
    refused = sum(outcome.answers[status] for status in _REFUSED)
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(outcome.answers.items()))
    success = (
        f"{done / visit.seconds:.1f} answered per second of {visit.rate:.1f}; median "
        f"{outcome.percentile_ms(50):.0f} ms, 99th percentile {outcome.percentile_ms(99):.0f} ms"
    )
    others = outcome.answers.total() - done - refused
    return [
        Bar("overload: requests neither answered nor refused", "at most", 0, others, digits=0, remark=counts),
        Bar(
            "… let in but without their answer", "at most", 0, abs(accepted - done), digits=0, remark=success
        ),
        Bar("… tracebacks in the server's log", "at most", 0, bugs, digits=0),
        Bar("… client behind its clock", "at most", _LATEST_S, outcome.late_s, " s"),
    ]


def memory_bars(memory: list[float]) -> list[Bar]:
    """Whether memory was flat.

    Args:
        memory: MiB each second; 0 where the server had ended. The first minute, or tenth where that is less,
            is its warm-up.
    """
    warm = memory[min(60, len(memory) // 10) :] or [0.0]
    fifth = max(1, len(warm) // 5)
    first, last = median(warm[:fifth]), median(warm[-fifth:])
    early, late = max(warm[:fifth]), max(warm[fifth:] or [0.0])
    grown = [100 * (now / then - 1) if then else 100.0 for now, then in ((last, first), (late, early))]
    remark = f"medians {first:.1f} MiB, then {last:.1f}; highest {early:.1f} MiB, then {late:.1f}"
    crashed = 0.0 in memory
    return [
        Bar("… crashes", "at most", 0, crashed, digits=0),
        Bar("… memory, last fifth against the first", "at most", _FLAT_PERCENT, grown[0], " %", 1, remark),
        Bar(
            "… memory, highest after the first fifth against the highest in it",
            "at most",
            _FLAT_PERCENT,
            grown[1],
            " %",
            1,
        ),
    ]
