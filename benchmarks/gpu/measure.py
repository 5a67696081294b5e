"""Measure the parts one after the other, each in a process of its own."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.gpu.clock import Meter
from benchmarks.gpu.engines import machine_here
from benchmarks.gpu.kit import Kit, open_kit
from benchmarks.gpu.sections import SECTIONS, Budget
from quant.errors import OctavoError, Unsupported

__all__ = ["measure", "work"]

_COMMAND = (sys.executable, "-m", "benchmarks.gpu")
_ROOT = Path(__file__).resolve().parents[2]
_LEAST_S = 5.0
_WEIGHTS = {"tensorrt": 4, "tensorrt_rtx": 4}  # building takes longest
_TAIL = 300


def work(name: str, kit: Kit, budget: Budget) -> None:
    """Measure one part; a line of JSON for each row, and one that says why there are no more.

    Args:
        name: of the part.
        kit: to measure.
        budget: see :class:`benchmarks.gpu.sections.Budget`.
    """
    # What libraries print must not be taken for a row.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        try:
            for row in SECTIONS[name](kit, budget):
                _tell(answers, {"row": row.to_dict()})
            _tell(answers, {"end": "done"})
        except ImportError as error:
            _tell(answers, {"end": f"not installed: {error}"})
        except OctavoError as error:
            _tell(answers, {"end": " ".join(str(error).split())})


def measure(folder: Path, out: Path, parts: Sequence[str], seconds: float, budget: Budget) -> dict[str, Any]:
    """Measure a kit.

    Args:
        folder: the kit.
        out: the file of the result, written anew after each part.
        parts: names of :data:`benchmarks.gpu.sections.SECTIONS`.
        seconds: for all of them; each may take a share of what is left, TensorRT the largest.
        budget: of single timings.

    Returns:
        The result, as JSON values.

    Raises:
        BadInput: the folder is no kit, or the file cannot be written.
    """
    open_kit(folder)
    end = time.monotonic() + seconds
    found: dict[str, Any] = {
        "device": _device(),
        "environment": asdict(describe_environment()),
        "sections": {},
    }
    write_text(out, json.dumps(found, indent=1) + "\n")
    for number, name in enumerate(parts):
        weights = [_WEIGHTS.get(part, 1) for part in parts[number:]]
        share = max((end - time.monotonic()) * weights[0] / sum(weights), _LEAST_S)
        print(f"{name}: up to {share:.0f} s", file=sys.stderr, flush=True)
        start = time.monotonic()
        rows, ended = _apart(name, folder, budget, share)
        found["sections"][name] = {"seconds": time.monotonic() - start, "end": ended, "rows": rows}
        write_text(out, json.dumps(found, indent=1) + "\n")
    return found


def _apart(name: str, kit: Path, budget: Budget, seconds: float) -> tuple[list[dict[str, Any]], str]:
    """The rows of a part, and how it ended."""
    command = [*_COMMAND, "section", name, str(kit.resolve())]
    command += ["--seconds", str(budget.seconds), "--device", budget.device]
    path = os.pathsep.join([str(_ROOT), *(entry or os.getcwd() for entry in sys.path)])
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,  # so that its own children end with it
    )
    said: list[bytes] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(target=_keep_tail, args=(process.stderr, said), daemon=True)
    reader.start()
    rows, ended = [], None
    try:
        for line in _lines(process.stdout, seconds):
            told = json.loads(line)
            if "row" in told:
                rows.append(told["row"])
            else:
                ended = told["end"]
    except TimeoutError:
        ended = ended or f"its {seconds:.0f} s were over"
    _end(process)
    reader.join(1)
    return rows, ended or f"its process ended {_how(process.returncode)}: {_text(said)}"


def _lines(stream: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    """Lines as they come, until the stream ends.

    Raises:
        TimeoutError: the time ends first.
    """
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            waiting.put(line)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    end = time.monotonic() + seconds
    while True:
        try:
            line = waiting.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            return
        yield line


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(2 if process.poll() is None else None)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _keep_tail(stream: Iterable[bytes], kept: list[bytes]) -> None:
    for line in stream:
        kept.append(line)
        del kept[:-5]


def _text(said: Sequence[bytes]) -> str:
    return b" ".join(said)[-_TAIL:].decode(errors="replace").strip() or "it said nothing"


def _how(status: int) -> str:
    return f"with status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"


def _device() -> dict[str, Any]:
    try:
        device = asdict(machine_here().device)
    except Unsupported as error:
        device = {"name": None, "why": str(error)}
    return {**device, **Meter().describe()}


def _tell(where: Any, told: dict[str, Any]) -> None:
    where.write(json.dumps(told) + "\n")
    where.flush()
