"""Put load on the variants of a run, where its configuration asks for it."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.bench import Candidate, Speed, bound_cpus
from benchmarks.harness.loadgen import loadgen
from benchmarks.harness.process import Subject
from benchmarks.load import LoadResult, bench_load, loads_of
from benchmarks.metrics import Floats
from deploy.pipeline.line import FLOAT, Line
from quant.errors import BadInput

__all__ = ["check_load", "run_load"]


def check_load(line: Line) -> None:
    """Find what load lacks before anything is measured.

    Raises:
        BadInput: the float model is not timed with one image per call.
        Unsupported: LoadGen is not installed.
    """
    how = line.config.bench
    if how.load is None:
        return
    if 1 not in map(line.batch_size, how.batch_sizes):
        raise BadInput("load is a share of what FP32 does image by image: put 1 into `bench.batch_sizes`")
    loadgen()


def run_load(
    line: Line, candidates: Sequence[Candidate], images: Floats, speed: Speed
) -> Mapping[str, tuple[LoadResult, ...]]:
    """Loads made from the float model's speed, on every candidate; nothing where none is asked for.

    Args:
        line: the run.
        candidates: what is measured.
        images: images [N, C, H, W] that arrive.
        speed: how fast the candidates are.

    Raises:
        BadInput: a model cannot be fed.
        Unsupported: a model cannot be run.
    """
    how = line.config.bench
    if how.load is None:
        return {}
    threads = how.threads[0]
    single = next(e for e in speed.latency[FLOAT] if (e.batch, e.threads) == (1, threads))
    batch = line.batch_size(how.load.batch)
    loads = loads_of(single, how.load.utilization, how.load.seconds, batch, how.load.latency_ms)
    subjects = [Subject(c.name, c.backend, c.path, c.options, c.interpreter) for c in candidates]
    with tempfile.TemporaryDirectory(prefix="octavo-") as folder:
        file = Path(folder) / "images.npy"
        np.save(file, images)
        return bench_load(subjects, file, loads, threads, bound_cpus(how.cpus, threads))
