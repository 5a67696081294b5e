"""``python -m benchmarks.bars.fuzz``: spoiled models and engines must be refused, in one line and in time.

A small quantized model is spoiled in seeded ways and given to what ``octavo build`` calls; its engine and the
manifest are spoiled and looked up. Refused means `BadInput` or `Unsupported`, which end a command with exit
code 2. Changes of single bytes may hit weights and leave another valid model, which is counted apart: onnx's
checker and ONNX Runtime must take it, too. All else has escaped: another exception, a crash, an engine that
is not the one that was built, files left behind, or more than 10 s.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from benchmarks.bars.corrupt_bytes import BYTES
from benchmarks.bars.corrupt_engines import ENGINES
from benchmarks.bars.corrupt_models import STRUCTURE
from benchmarks.bars.small_model import small_model
from deploy.onnxruntime.build import build_session
from deploy.tensorrt.build import EngineSettings
from deploy.tensorrt.cache import PLAN, EngineCache, Identity
from deploy.tensorrt.engines import build_engine
from deploy.tensorrt.manifest import read_manifest
from quant.errors import BadInput, Unsupported

__all__ = ["KINDS", "Verdict", "check_engine", "fuzz", "main"]

LIBRARY = "tensorrt_rtx"
LIMIT_S = 10.0
_HANG_S = 3 * LIMIT_S
_SETTINGS = EngineSettings(compute=("SM89",), optimization_level=0)
KINDS = (
    *(f"bytes of a model: {name}" for name in BYTES),
    *(f"structure of a model: {name}" for name in STRUCTURE),
    *(f"engine: {name}" for name in ENGINES),
)
"""What is tried, in turns."""

Outcome = Literal["refused", "still valid", "ESCAPED"]


@dataclass(frozen=True)
class Verdict:
    """What became of a spoiled file.

    Attributes:
        case: its number; with the seed it names the file.
        kind: of :data:`KINDS`.
        outcome: see the module.
        seconds: it took.
        said: the message.
    """

    case: int
    kind: str
    outcome: Outcome
    seconds: float
    said: str


def fuzz(
    model: Path,
    count: int,
    seed: int,
    folder: Path,
    kinds: Sequence[str] = KINDS,
    say: Callable[[str], None] = lambda _: None,
) -> list[Verdict]:
    """Spoil a model and its engine in ``count`` ways.

    Args:
        model: an ONNX file that TensorRT-RTX takes.
        count: how many; the kinds take turns.
        seed: of all choices.
        folder: for what is written on the way.
        kinds: of :data:`KINDS`.
        say: told what is tried.

    Raises:
        Unsupported: TensorRT-RTX is not installed.
    """
    cache = EngineCache(folder / "whole")
    engine = build_engine(model, _SETTINGS, cache, LIBRARY)
    made_from = {key: engine.manifest[key] for key in ("model", "library", "version", "device")}
    identity = Identity(**made_from, settings=_SETTINGS)
    found = []
    for case in range(count):
        kind = kinds[case % len(kinds)]
        say(f"{case + 1} of {count}: {kind}")
        place = folder / str(case)
        place.mkdir()
        begin = time.monotonic()
        if kind.startswith("engine"):
            outcome, said = _apart(_try_engine, kind, [seed, case], engine.folder, identity, place)
        else:
            outcome, said = _apart(_try_model, kind, [seed, case], model, place)
        seconds, said = time.monotonic() - begin, said.replace(f"{place}/", "")
        if seconds > LIMIT_S:
            outcome, said = "ESCAPED", f"it took {seconds:.1f} s: {said}"
        found.append(Verdict(case, kind, outcome, seconds, said))
        shutil.rmtree(place)
    return found


def check_engine(folder: Path, identity: Identity) -> None:
    """Refuse an engine that is not as it was built: as the cache does, and as what runs engines does.

    Raises:
        BadInput: the plan or its manifest was changed, or is of something else.
    """
    found = EngineCache(folder.parent).find(identity)
    read_manifest(folder / PLAN)
    if found is None:
        raise BadInput(f"{folder}: the engine is not the one that its manifest tells of")


def _try_model(kind: str, seed: list[int], model: Path, place: Path) -> tuple[Outcome, str]:
    name = kind.partition(": ")[2]
    changes = STRUCTURE if kind.startswith("structure") else BYTES
    path = place / "model.onnx"
    path.write_bytes(changes[name](model.read_bytes(), np.random.default_rng(seed)))
    cache = EngineCache(place / "engines")
    try:
        build_engine(path, _SETTINGS, cache, LIBRARY, timeout_s=LIMIT_S)
    except (BadInput, Unsupported) as error:
        left = [file.name for file in cache.root.iterdir() if file.suffix != ".lock"]
        return ("ESCAPED", f"left behind: {', '.join(left)}") if left else ("refused", str(error))
    if name in STRUCTURE:
        return "ESCAPED", "an engine was built"
    onnx.checker.check_model(str(path))
    build_session(path)
    return "still valid", ""


def _try_engine(
    kind: str, seed: list[int], engine: Path, identity: Identity, place: Path
) -> tuple[Outcome, str]:
    folder = place / engine.name
    shutil.copytree(engine, folder)
    ENGINES[kind.partition(": ")[2]](folder, np.random.default_rng(seed))
    try:
        check_engine(folder, identity)
    except (BadInput, Unsupported) as error:
        return "refused", str(error)
    same = (folder / "engine.plan").read_bytes() == (engine / "engine.plan").read_bytes()
    return ("still valid", "") if same else ("ESCAPED", "another engine was taken")


def _apart(task: Callable[..., tuple[Outcome, str]], *given: object) -> tuple[Outcome, str]:
    """Do it in a process of its own, for it may crash or hang."""
    context = multiprocessing.get_context("fork")
    answers, send = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(send, task, given))
    process.start()
    send.close()
    try:
        if not answers.poll(_HANG_S):
            return "ESCAPED", "it hangs"
        outcome: tuple[Outcome, str] = answers.recv()
        return outcome
    except EOFError:
        process.join()
        return "ESCAPED", f"the process died with {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _tell(send: Any, task: Callable[..., tuple[Outcome, str]], given: Sequence[object]) -> None:
    try:
        send.send(task(*given))
    except Exception as error:  # whatever it is, it has escaped
        send.send(("ESCAPED", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Spoil, print; returns 1 when something escaped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="files to spoil")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON with every file and nothing else")
    given = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        with tempfile.TemporaryDirectory() as folder, console.status("fuzz") as status:
            model = small_model(Path(folder) / "run", console)
            found = fuzz(
                model, given.count, given.seed, Path(folder), say=lambda text: status.update(f"fuzz {text}")
            )
    except Unsupported as error:  # the library is not installed
        print(f"fuzz: {error}", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps([asdict(verdict) for verdict in found], indent=2))
    else:
        _print(found, Console())
    return 1 if any(verdict.outcome == "ESCAPED" for verdict in found) else 0


def _print(found: Sequence[Verdict], console: Console) -> None:
    table = Table(title=f"{len(found)} spoiled models and engines")
    for column in ("what", "refused", "still valid", "ESCAPED", "longest"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for group in dict.fromkeys(verdict.kind.partition(": ")[0] for verdict in found):
        of = [verdict for verdict in found if verdict.kind.startswith(group)]
        counts = Counter(verdict.outcome for verdict in of)
        longest = max(verdict.seconds for verdict in of)
        table.add_row(
            group, *(str(counts[name]) for name in ("refused", "still valid", "ESCAPED")), f"{longest:.1f} s"
        )
    console.print(table)
    for verdict in found:
        if verdict.outcome == "ESCAPED":
            console.print(f"case {verdict.case}, {verdict.kind}: {verdict.said}", markup=False)


if __name__ == "__main__":
    raise SystemExit(main())
