"""``python -m benchmarks.bars.builders``: eight builders of one engine side by side, one of them killed.

Every round has an empty cache. Eight processes build the same engine and a ninth one with other settings; one
of the eight gets SIGKILL at a random time, in every second round the one that is at work. Then there must be
one whole engine of each kind, the others must have got it, and nothing may be left of the killed one, its
builder process included. Beside that: what an engine from the cache costs of the first build.
"""

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from numpy.random import Generator
from rich.console import Console

from benchmarks.bars.bar import Bar, print_bars, to_dicts
from benchmarks.bars.small_model import small_model
from deploy.tensorrt.build import EngineSettings
from deploy.tensorrt.cache import MANIFEST, PLAN, Engine, EngineCache
from deploy.tensorrt.engines import build_engine
from quant.errors import BadInput, Unsupported
from quant.files import file_sha256

__all__ = ["BUILDERS", "Round", "cached_bar", "main", "one_round"]

LIBRARY = "tensorrt_rtx"
BUILDERS = 8
_SAME = EngineSettings(compute=("SM89",), optimization_level=0)
_OTHER = EngineSettings(compute=("SM89",), optimization_level=0, batches=(1, 1, 4))
_PATIENCE_S = 120.0
_LEFT_S = 5.0  # a process that was told to end may take so long on a busy machine


@dataclass(frozen=True)
class Round:
    """What a round showed.

    Attributes:
        number: with the seed it repeats the choices.
        killed_after_s: since the start.
        at_work: whether the killed one was building.
        builds: engines of the same kind that were begun, as far as seen.
        wrong: what must not be, in words.
    """

    number: int
    killed_after_s: float
    at_work: bool
    builds: int
    wrong: tuple[str, ...]


def one_round(model: Path, root: Path, number: int, rng: Generator, usual_s: float) -> Round:
    """Build side by side, kill one, look at what is there.

    Args:
        model: an ONNX file.
        root: of a cache that does not exist.
        number: of the round; the odd ones kill the builder at work.
        rng: chooses whom to kill and when.
        usual_s: what a build takes, in seconds.
    """
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    answers = [root.with_name(f"{root.name}-{index}.json") for index in range(BUILDERS + 1)]
    builders = [
        context.Process(
            target=_build, args=(model, root, _SAME if i < BUILDERS else _OTHER, ready, answers[i])
        )
        for i in range(BUILDERS + 1)
    ]
    for builder in builders:
        builder.start()
    ready.set()
    begin = time.monotonic()
    chosen = int(rng.integers(BUILDERS))
    if number % 2:
        _wait_for_work(root, builders[:BUILDERS])
    time.sleep(float(rng.uniform(0, 1.5 * usual_s)))
    at_work = _at_work(root, builders[:BUILDERS])
    victim = at_work if number % 2 and at_work is not None else chosen
    workers = _children(builders[victim].pid)
    os.kill(builders[victim].pid or 0, signal.SIGKILL)
    killed_after_s = time.monotonic() - begin
    for builder in builders:
        builder.join(_PATIENCE_S)
        builder.kill()  # where it still runs, it has no answer, which is told below
        builder.join()
    told = {i: json.loads(answers[i].read_bytes()) for i in range(BUILDERS + 1) if answers[i].is_file()}
    killed = builders[victim].exitcode == -signal.SIGKILL and victim not in told
    wrong = [
        f"builder {i} ended with {builder.exitcode}"
        for i, builder in enumerate(builders)
        if i not in told and not (killed and i == victim)
    ]
    wrong += [f"process {pid} of the killed one goes on" for pid in workers if not _ended(pid)]
    wrong += _wrong_in(root, told)
    fresh = sum(told[i]["fresh"] for i in told if i < BUILDERS)
    builds = fresh + (killed and victim == at_work)
    if builds > 2 or fresh > 1:
        wrong.append(f"{builds} builds of one engine")
    return Round(number, killed_after_s, victim == at_work, builds, tuple(wrong))


def cached_bar(model: Path, folder: Path, times: int = 5) -> Bar:
    """The time of an engine from the cache, in percent of the first build's; medians.

    Args:
        model: an ONNX file.
        folder: for caches.
        times: how often both are measured.
    """
    first, again = [], []
    for index in range(times):
        cache = EngineCache(folder / f"cached-{index}")
        first.append(_seconds(partial(build_engine, model, EngineSettings(), cache, LIBRARY)))
        again.append(_seconds(partial(build_engine, model, EngineSettings(), cache, LIBRARY)))
    build, found = statistics.median(first), statistics.median(again)
    remark = f"{1000 * found:.1f} ms of {build:.2f} s; model {model.stat().st_size / 2**20:.1f} MiB"
    return Bar(
        "engine from the cache, of the first build's time",
        "at most",
        2.0,
        100 * found / build,
        " %",
        remark=remark,
    )


def _build(model: Path, root: Path, settings: EngineSettings, ready: object, answer: Path) -> None:
    ready.wait()  # type: ignore[attr-defined]
    engine = build_engine(model, settings, EngineCache(root), LIBRARY, timeout_s=_PATIENCE_S)
    told = {"key": engine.folder.name, "sha256": file_sha256(engine.plan), "fresh": engine.fresh}
    beside = answer.with_suffix(".part")
    beside.write_text(json.dumps(told | {"batches": engine.manifest["settings"]["batches"]}))
    beside.rename(answer)


def _wrong_in(root: Path, told: dict[int, dict[str, object]]) -> list[str]:
    """What does not fit in the cache, or between it and what the builders were given."""
    wrong = []
    names = sorted(path.name for path in root.iterdir() if path.suffix not in (".lock", ".cache"))
    if len(names) != 2 or any(name.startswith(".") for name in names):
        wrong.append(f"in the cache are {', '.join(names) or 'no engines'}")
    for index, one in told.items():
        settings = _SAME if index < BUILDERS else _OTHER
        kept = _kept(root / str(one["key"]))
        if kept is None or kept != (one["sha256"], list(settings.batches)) or one["batches"] != kept[1]:
            wrong.append(f"builder {index} got another engine than the one that is kept")
    return wrong


def _kept(folder: Path) -> tuple[object, object] | None:
    """SHA-256 and batches of an engine in the cache; None where it is not whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        whole = manifest["plan"]["sha256"] == file_sha256(folder / PLAN)
        return (manifest["plan"]["sha256"], manifest["settings"]["batches"]) if whole else None
    except (OSError, ValueError, KeyError):
        return None


def _at_work(root: Path, builders: Sequence[BaseProcess]) -> int | None:
    """The builder whose unfinished engine lies in the cache."""
    names = [path.name for path in root.glob(".partial-*")] if root.is_dir() else []
    return next((i for i, b in enumerate(builders) if any(n.endswith(f"-{b.pid}") for n in names)), None)


def _wait_for_work(root: Path, builders: Sequence[BaseProcess]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while _at_work(root, builders) is None and time.monotonic() < until:
        time.sleep(0.01)


def _children(pid: int | None) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _ended(pid: int) -> bool:
    until = time.monotonic() + _LEFT_S
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def _seconds(work: Callable[[], Engine]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, kill, print; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.builders", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, metavar="FILE", help="an ONNX file whose cached build is timed")
    parser.add_argument("--json", action="store_true", help="print JSON with every round and nothing else")
    given = parser.parse_args(arguments)
    try:
        rounds, cached = _measure(given.rounds, given.seed, given.model, Console(stderr=True))
    except (BadInput, Unsupported) as error:
        print(f"builders: {error}", file=sys.stderr)
        return 2
    bars = [_rounds_bar(rounds), cached]
    if given.json:
        print(json.dumps({"rounds": [asdict(r) for r in rounds], "bars": to_dicts(bars)}, indent=2))
    else:
        print_bars(bars, Console())
        for one in rounds:
            for words in one.wrong:
                print(f"round {one.number}, killed after {one.killed_after_s:.2f} s: {words}")
    return 0 if all(bar.reached for bar in bars) else 1


def _measure(count: int, seed: int, timed: Path | None, console: Console) -> tuple[list[Round], Bar]:
    rounds = []
    with tempfile.TemporaryDirectory() as name, console.status("builders") as status:
        folder = Path(name)
        model = small_model(folder / "run", console)
        usual_s = _seconds(partial(build_engine, model, _SAME, EngineCache(folder / "first"), LIBRARY))
        cached = cached_bar(timed or model, folder)
        rng = np.random.default_rng(seed)
        for number in range(count):
            status.update(f"builders: round {number + 1} of {count}")
            rounds.append(one_round(model, folder / f"round-{number}", number, rng, usual_s))
    return rounds, cached


def _rounds_bar(rounds: Sequence[Round]) -> Bar:
    right = sum(not one.wrong for one in rounds)
    at_work, twice = sum(one.at_work for one in rounds), sum(one.builds == 2 for one in rounds)
    remark = f"in {at_work} rounds the builder at work was killed; {twice} engines were begun twice"
    what = f"{BUILDERS} builders of an engine, one killed: rounds that end with it whole"
    return Bar(what, "at least", len(rounds), right, f" of {len(rounds)}", digits=0, remark=remark)


if __name__ == "__main__":
    raise SystemExit(main())
