"""SIGTERM under load, again and again: every request that the server took is answered."""

import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bars.bar import Bar
from benchmarks.bars.serving.crowd import crowd
from benchmarks.bars.serving.samples import Samples, make_samples
from benchmarks.bars.serving.served import served
from benchmarks.peers.process import Say

__all__ = ["End", "end_under_load", "sigterm_bars"]

_DRAIN_S = 1.0
_GRACE_S = 30.0
_SETTLE_S = 3.0  # Python's own end, and a machine that has other work
_EARLIEST_S, _LATEST_S = 0.2, 1.2
_DONE = ("200", "OK")


@dataclass(frozen=True)
class End:
    """One end.

    Attributes:
        answered: by status, as clients saw it.
        problems: all that was not as it should be.
        seconds: from the signal to the end.
    """

    answered: Counter[str]
    problems: list[str]
    seconds: float


def sigterm_bars(bundle: Path, folder: Path, ends: int, seed: int, say: Say) -> list[Bar]:
    """End a server so many times.

    Args:
        bundle: served.
        folder: for files on the way.
        ends: how many.
        seed: of the moments.
        say: told what happens.
    """
    samples, found = make_samples(bundle), []
    for number in range(ends):
        say(f"sigterm: {number + 1} of {ends}")
        found.append(end_under_load(bundle, samples, folder / f"{number}.log", seed + number))
        for problem in found[-1].problems:
            say(f"  {problem}")
    answered: Counter[str] = sum((end.answered for end in found), Counter())
    problems = [problem for end in found for problem in end.problems]
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(answered.items()))
    return [
        Bar(f"{ends} SIGTERMs under load: requests lost, and other faults", "at most", 0, len(problems),
            digits=0, remark="; ".join(dict.fromkeys(problems)) or counts),
        Bar("… longest end", "at most", _DRAIN_S + _GRACE_S, max(end.seconds for end in found), " s"),
    ]  # fmt: skip


def end_under_load(bundle: Path, samples: Samples, log: Path, seed: int) -> End:
    """Start a server, have clients ask it, end it at some moment, and compare the accounts."""
    moment = random.Random(seed).uniform(_EARLIEST_S, _LATEST_S)
    problems, code = [], None
    options = ["--drain-s", str(_DRAIN_S), "--grace-s", str(_GRACE_S)]
    options += ["--queue", "2"] if seed % 3 == 0 else []  # some ends while requests are refused, too
    with served(bundle, log, options) as server:
        with crowd(server, samples, seed) as account:
            time.sleep(moment)
            server.process.send_signal(signal.SIGTERM)
            signalled = time.monotonic()
            try:
                code = server.wait(_DRAIN_S + _GRACE_S + _SETTLE_S)
            except subprocess.TimeoutExpired:
                problems.append("it does not end")
                server.process.kill()
            seconds = time.monotonic() - signalled
        lines = server.lines()
    problems += [*account.lost, *account.wrong]
    if code:
        problems.append(f"exit code {code}")
    if unspoken := [line for line in lines if "text" in line or "traceback" in line]:
        problems.append(f"the log has {unspoken[0]}")
    told = sum(line.get("event") == "request" and str(line["status"]) in _DONE for line in lines)
    got = sum(account.answered[status] for status in _DONE)
    if told != got:
        problems.append(f"the server says {told} were answered, the clients {got}")
    return End(account.answered, problems, seconds)
