"""From a bundle to functions that compute: ONNX Runtime, or TensorRT where it has an engine."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.runner import Runner

__all__ = ["Run", "open_runs"]

Run = Callable[[NDArray[Any]], NDArray[Any]]
"""Rows [N, ...] to rows [N, K]."""


def open_runs(bundle: Bundle, workers: int, threads: int, stack: ExitStack) -> tuple[Run, ...]:
    """One function per worker.

    Where each worker of ONNX Runtime brings its own thread, all share one session, which has the weights
    once; with more threads each has a session, as a session's threads are shared by all who call it. An
    engine is there once, with a context for each worker.

    Args:
        bundle: it.
        workers: how many.
        threads: of ONNX Runtime in each.
        stack: that closes what is opened.

    Raises:
        BadInput: an engine is for another GPU.
        Unsupported: a provider, or TensorRT, is not there.
    """
    runners: list[Runner]
    if bundle.has_engine:
        runners = [stack.enter_context(bundle.engine_runner(workers))]
    else:
        settings = bundle.session_settings(threads)
        count = 1 if threads == 1 else workers
        runners = [stack.enter_context(bundle.runner(settings)) for _ in range(count)]
    names = bundle.manifest.model_input.name, bundle.manifest.model_output.name
    return tuple(partial(_run, runners[i % len(runners)], *names) for i in range(workers))


def _run(runner: Runner, name: str, output: str, rows: NDArray[Any]) -> NDArray[Any]:
    return runner.infer({name: rows})[output]
