"""Build in a process of its own, which a crash of the library or a time-out ends alone.

``python -m deploy.tensorrt.child`` reads one order as a line of JSON and answers with lines of JSON:
progress, and at last ``done`` or ``error``. Files are written beside their place and renamed.
"""

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from deploy.tensorrt.build import EngineSettings, build_plan, engine_settings
from deploy.tensorrt.library import find_library
from quant.errors import BadInput, InternalError, OctavoError, Unsupported
from quant.files import replace_bytes
from quant.progress import Progress, silent

__all__ = ["build_apart", "main"]

_ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_KINDS = {"BadInput": BadInput, "Unsupported": Unsupported}


def build_apart(
    model: Path,
    plan: Path,
    settings: EngineSettings,
    library: str | None = None,
    timing_cache: Path | None = None,
    timeout_s: float | None = None,
    progress: Progress = silent,
) -> None:
    """Build an engine in a process of its own.

    Args:
        model: an ONNX file that :func:`deploy.tensorrt.build.check_file` accepts.
        plan: the file to write.
        settings: of the engine.
        library: key of :data:`deploy.tensorrt.library.LIBRARIES`.
        timing_cache: read if it is there, written where the library keeps one.
        timeout_s: the longest that it may take, in seconds.
        progress: told the builder's phases.

    Raises:
        BadInput: a setting does not fit, or it took too long.
        Unsupported: the library refused the model, or crashed on it.
    """
    order = {
        "model": str(model.resolve()),
        "plan": str(plan.resolve()),
        "settings": asdict(settings),
        "library": library,
        "timing_cache": None if timing_cache is None else str(timing_cache.resolve()),
        "parent": os.getpid(),
    }
    path = os.pathsep.join([str(_ROOT), *(entry or os.getcwd() for entry in sys.path)])
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.tensorrt.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONPATH": path},
        )
        try:
            answer = _wait(process, order, timeout_s, progress, model)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    assert stream is not None
                    stream.close()
        if answer is None:
            raise _died(process.returncode, _tail(errors), model)
    if "error" in answer:
        raise _KINDS.get(answer["kind"], InternalError)(answer["error"])


def _wait(
    process: "subprocess.Popen[bytes]",
    order: dict[str, Any],
    timeout_s: float | None,
    progress: Progress,
    model: Path,
) -> dict[str, Any] | None:
    """The last answer; None where the process ended without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it ended before it read the order; what it said is told
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not selector.select(left):
                raise BadInput(f"{model}: building took longer than {timeout_s:g} s")
            line = process.stdout.readline()
            if not line:
                return None
            told: dict[str, Any] = json.loads(line)
            if "phase" not in told:
                return told
            progress(told["phase"], told["done"], told["total"])


def _tail(errors: Any) -> str:
    errors.seek(0)
    return str(errors.read()[-300:].decode(errors="replace")).strip()


def _died(status: int, said: str, model: Path) -> Unsupported:
    how = f"with status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
    return Unsupported(
        f"{model}: the builder's process ended {how}; the library crashed on it. {said}".strip()
    )


def main() -> int:
    """Carry out one order."""
    # What the library prints must not be taken for an answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        order = json.loads(sys.stdin.readline())
        _end_with(order["parent"])
        try:
            _build(order, answers)
            _answer(answers, {"done": True})
        except OctavoError as error:
            _answer(answers, {"error": str(error), "kind": type(error).__name__})
        except Exception:
            _answer(answers, {"error": traceback.format_exc(), "kind": "InternalError"})
    return 0


def _end_with(parent: int) -> None:
    """Do not go on building for a parent that was killed: nobody would take the engine."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it was killed before
        sys.exit(1)


def _build(order: dict[str, Any], answers: TextIO) -> None:
    def show(phase: str, done: int, total: int) -> None:
        _answer(answers, {"phase": phase, "done": done, "total": total})

    kept = None if order["timing_cache"] is None else Path(order["timing_cache"])
    before = kept.read_bytes() if kept is not None and kept.is_file() else b""
    settings = engine_settings(order["settings"])
    plan, after = build_plan(Path(order["model"]), settings, find_library(order["library"]), before, show)
    replace_bytes(Path(order["plan"]), plan)
    if kept is not None and after:
        replace_bytes(kept, after)


def _answer(where: TextIO, told: dict[str, Any]) -> None:
    where.write(json.dumps(told) + "\n")
    where.flush()


if __name__ == "__main__":
    sys.exit(main())
