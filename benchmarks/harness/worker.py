"""The process that holds one model and runs it on order: ``python -m benchmarks.harness.worker``.

Orders come as lines of JSON on standard input, each is answered by a line on standard output; the end of the
input ends the process. Besides the model's own runtime only NumPy is imported, so that memory is that of a
deployed model, and so that the process can live in another environment than ours.

    {"do": "open", "backend": B, "model": PATH, "threads": N, "cpus": [..] or null, "options": {..}}
    {"do": "feed", "name": INPUT or null, "file": IMAGES.npy, "batch": N}
    {"do": "run", "calls": N}
    {"do": "load", "file": IMAGES.npy, "name": INPUT, and the fields of `benchmarks.harness.loadgen.Load`}
"""

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.harness.backends import open_model
from benchmarks.harness.rapl import EnergyCounter
from benchmarks.harness.status import read_status
from deploy.runner import Array, Runner
from quant.errors import BadInput, OctavoError

__all__ = ["Worker", "main"]

Reply = dict[str, Any]


class Worker:
    """One model and the orders it knows; a context manager that lets go of the model at its end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._runner: Runner | None = None
        self._feeds: dict[str, Array] = {}
        self._energy = EnergyCounter()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def obey(self, order: dict[str, Any]) -> Reply:
        """Carry out one order; the answer has no ``error``."""
        orders: dict[str, Callable[..., Reply]] = {
            "open": self._open,
            "feed": self._feed,
            "run": self._run,
            "load": self._load,
        }
        return orders[order.pop("do")](**order)

    def _open(
        self, backend: str, model: str, threads: int, cpus: list[int] | None, options: dict[str, Any]
    ) -> Reply:
        if cpus is not None:
            _bind(cpus)  # before the runtime makes its threads, which inherit it
        opener = open_model(backend, Path(model), threads, options)
        imported = read_status("VmRSS")
        began = time.perf_counter_ns()
        self._runner = self._stack.enter_context(opener())
        took = (time.perf_counter_ns() - began) / 1e6
        return {"load_ms": took, "imported_mib": imported, "loaded_mib": read_status("VmRSS")}

    def _feed(self, name: str | None, file: str, batch: int) -> Reply:
        images = np.load(file, mmap_mode="r")
        wanted = images[
            np.arange(batch) % len(images)
        ]  # reads no others, which would count as the model's memory
        self._feeds = {name or "input": np.ascontiguousarray(wanted)}
        return {}

    def _load(self, file: str, name: str, **load: Any) -> Reply:
        from benchmarks.harness.loadgen import Load, generate

        assert self._runner is not None, "nothing is open"
        return generate(self._runner, name, np.load(file), Load(**load))

    def _run(self, calls: int) -> Reply:
        assert self._runner is not None, "nothing is open"
        infer, feeds, clock = self._runner.infer, self._feeds, time.perf_counter_ns
        times = [0] * calls
        gc.collect()
        gc.disable()
        self._energy.joules()
        try:
            for i in range(calls):
                began = clock()
                infer(feeds)
                times[i] = clock() - began
        finally:
            gc.enable()
        return {
            "ns": times,
            "joules": self._energy.joules(),
            "resident_mib": read_status("VmRSS"),
            "peak_mib": read_status("VmHWM"),
        }


def main() -> int:
    """Answer orders until there are no more."""
    # A library that prints must not be taken for an answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers, Worker() as worker:
        os.dup2(2, 1)
        for line in sys.stdin:
            try:
                reply = worker.obey(json.loads(line))
            except OctavoError as error:
                reply = {"error": str(error), "kind": type(error).__name__}
            except Exception:
                reply = {"error": traceback.format_exc(), "kind": "InternalError"}
            _answer(answers, reply)
    return 0


def _bind(cpus: list[int]) -> None:
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        usable = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise BadInput(f"processors {cpus} cannot be used ({error.strerror}); usable: {usable}") from error


def _answer(where: TextIO, reply: Reply) -> None:
    where.write(json.dumps(reply) + "\n")
    where.flush()


if __name__ == "__main__":
    sys.exit(main())
