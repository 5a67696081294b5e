"""What the harness adds to a call."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from onnx import parser

from benchmarks.bars.bar import Bar
from deploy.onnxruntime.run import OrtRunner

__all__ = ["overhead_bar"]

_CALLS = 2000
_MODEL = """<ir_version: 9, opset_import: ["" : 17]>
g (float[N, 3, 8, 8] input) => (float[N, 3, 8, 8] output) { output = Relu(input) }"""


def overhead_bar() -> Bar:
    """The time from clock to clock around `OrtRunner.infer` above that of ONNX Runtime's own call.

    A model of one operator is called both ways in turn, so that the difference is seen; it is told as a share
    of a call of 1 ms.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        onnx.save(parser.parse_model(_MODEL), path)
        feeds = {"input": np.zeros((1, 3, 8, 8), np.float32)}
        with OrtRunner(path) as runner:
            session = runner.session
            ours, own = _timed(lambda: runner.infer(feeds), lambda: session.run(None, feeds))
    remark = f"{ours:.1f} µs with the harness, {own:.1f} µs ONNX Runtime's own call"
    return Bar(
        "harness per call, share of a call of 1 ms", "at most", 1, (ours - own) / 10, " %", remark=remark
    )


def _timed(*calls: Callable[[], object]) -> list[float]:
    """Median times in µs of functions that are called in turn."""
    times: list[list[int]] = [[] for _ in calls]
    for _ in range(_CALLS):
        for call, kept in zip(calls, times, strict=True):
            began = time.perf_counter_ns()
            call()
            kept.append(time.perf_counter_ns() - began)
    return [median(kept) / 1e3 for kept in times]
