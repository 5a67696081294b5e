"""Measure a list of variants: accuracy one by one; latency and memory in fresh processes that take turns."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.accuracy import Accuracy, LabelledBatch, Predictions, collect, score
from benchmarks.harness.backends import open_model
from benchmarks.harness.process import Footprint, Process, Subject
from benchmarks.harness.turns import Times, take_turns
from benchmarks.latency import Latency, LatencySettings, Noise, noise_of, summarize
from benchmarks.memory import Memory, memory_of
from benchmarks.metrics import Floats
from quant.errors import BadInput

__all__ = ["BenchSettings", "Candidate", "Speed", "bench_accuracy", "bench_speed", "bound_cpus"]

Batches = Callable[[], Iterable[LabelledBatch]]
Judge = Callable[[Predictions, Predictions | None], Accuracy]


class BenchSettings(BaseModel):
    """What is measured and how.

    Attributes:
        latency: processes, turns, batch sizes and threads. Memory is that of the same processes, at the first
            batch size and thread count.
        cpus: the processors that may be used, one per thread from the end of the list; those of this process
            when left out.
        input_name: the model input that takes the images.
        output_name: the output that holds the logits; ``None`` for the only one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency: LatencySettings = LatencySettings()
    cpus: tuple[int, ...] | None = None
    input_name: str = "input"
    output_name: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A model to measure.

    Attributes:
        name: unique name, e.g. ``int8-ort-x86``.
        path: what the backend opens, e.g. an ONNX file.
        backend: key of :data:`benchmarks.harness.backends.BACKENDS`.
        options: the backend's own.
        interpreter: the Python that has the backend's runtime, for its speed; ours runs it for its accuracy.
    """

    name: str
    path: Path
    backend: str = "onnxruntime"
    options: Mapping[str, Any] = field(default_factory=dict)
    interpreter: Path = Path(sys.executable)


@dataclass(frozen=True)
class Speed:
    """What was measured of all candidates side by side.

    Attributes:
        latency: by candidate, one for each thread count and batch size.
        memory: by candidate.
        millijoules: of an image, by candidate, from the processors' counters at the first batch size and
            thread count; None where they cannot be read.
        noise: of the reference against itself, for each thread count and batch size.
    """

    latency: Mapping[str, tuple[Latency, ...]]
    memory: Mapping[str, Memory]
    millijoules: Mapping[str, float | None]
    noise: tuple[Noise, ...]


def bench_accuracy(
    candidates: Sequence[Candidate],
    batches: Batches,
    settings: BenchSettings,
    *,
    reference: str = "fp32",
    judge: Judge = score,
    total: int | None = None,
    console: Console | None = None,
) -> dict[str, Accuracy]:
    """Accuracy of each candidate, one loaded at a time.

    Args:
        candidates: the models, the reference among them.
        batches: opens the labelled images; called once per variant, always giving the same ones.
        settings: see `BenchSettings`.
        reference: name of the candidate the others are compared with.
        judge: makes figures of answers and the reference's answers.
        total: number of images when known, for the progress bar.
        console: where progress is drawn; standard error when left out.

    Raises:
        BadInput: names clash, the reference is missing, or a model or the images cannot be used.
    """
    threads = max(settings.latency.threads)
    first = _named(candidates, reference)
    answers = {}
    for candidate in (first, *(c for c in candidates if c.name != reference)):
        with open_model(candidate.backend, candidate.path, threads, candidate.options)() as runner:
            answers[candidate.name] = collect(
                runner,
                batches(),
                input_name=settings.input_name,
                output_name=settings.output_name,
                title=f"accuracy {candidate.name}",
                total=total,
                console=console,
            )
    truth = answers[reference]
    return {c.name: judge(answers[c.name], None if c.name == reference else truth) for c in candidates}


def bench_speed(
    candidates: Sequence[Candidate],
    images: Floats,
    settings: BenchSettings,
    *,
    reference: str = "fp32",
    console: Console | None = None,
) -> Speed:
    """Latency and memory of all candidates, each in processes of its own that live side by side.

    Args:
        candidates: the models, the reference among them.
        images: some images [B, C, H, W] to feed, repeated to fill a batch.
        settings: see `BenchSettings`.
        reference: name of the candidate the others are compared with.
        console: where progress is drawn; standard error when left out.

    Raises:
        BadInput: names clash, the reference is missing, or a model cannot be loaded or fed.
        Unsupported: a model cannot be run.
    """
    subjects = [
        Subject(c.name, c.backend, c.path, c.options, c.interpreter, settings.input_name) for c in candidates
    ]
    twin = replace(_subject(subjects, reference, candidates), name=f"{reference} again")
    how = settings.latency
    latency: dict[str, list[Latency]] = {c.name: [] for c in candidates}
    noise: list[Noise] = []
    first: _Measured | None = None
    with tempfile.TemporaryDirectory(prefix="octavo-") as folder:
        file = Path(folder) / "images.npy"
        np.save(file, images)
        for threads in how.threads:
            cpus = bound_cpus(settings.cpus, threads)
            measured = _Measured(how)
            with _progress(f"latency, {threads} thread{'s' * (threads > 1)}", how, console) as advance:
                for _ in range(how.processes):
                    measured.processes([*subjects, twin], threads, cpus, file, advance)
            first = first or measured
            for batch in how.batch_sizes:
                times, load = measured.times[batch], measured.load_ms
                figures = summarize(times, load, reference, batch=batch, threads=threads, cpus=cpus)
                noise.append(noise_of(figures[reference], figures.pop(twin.name)))
                for name, entry in figures.items():
                    latency[name].append(entry)
    assert first is not None, "settings have at least one thread count"
    where = {"batch": how.batch_sizes[0], "threads": how.threads[0]}
    return Speed(
        latency={name: tuple(entries) for name, entries in latency.items()},
        memory={c.name: memory_of(first.footprints[c.name], **where) for c in candidates},
        millijoules={c.name: first.energy(c.name) for c in candidates},
        noise=tuple(noise),
    )


class _Measured:
    """What the processes of one thread count gave."""

    def __init__(self, how: LatencySettings) -> None:
        self._how = how
        self.times: dict[int, dict[str, list[Times]]] = {batch: {} for batch in how.batch_sizes}
        self.load_ms: dict[str, list[float]] = {}
        self.footprints: dict[str, list[Footprint]] = {}
        self.millijoules: dict[str, list[float]] = {}

    def processes(
        self,
        subjects: Sequence[Subject],
        threads: int,
        cpus: tuple[int, ...] | None,
        images: Path,
        advance: Callable[[int], None],
    ) -> None:
        """Start one process for each model, and let them take turns at every batch size."""
        how = self._how
        with ExitStack() as stack:
            running = {s.name: stack.enter_context(Process(s, threads, cpus)) for s in subjects}
            for name, process in running.items():
                self.load_ms.setdefault(name, []).append(process.load_ms)
            for batch in how.batch_sizes:
                for process in running.values():
                    process.feed(images, batch)
                times = take_turns(
                    running, warmup=how.warmup, calls=how.calls, turn=how.turn, on_round=advance
                )
                for name, own in times.items():
                    self.times[batch].setdefault(name, []).append(own)
                    if batch == how.batch_sizes[0]:
                        self._keep(name, running[name])

    def energy(self, name: str) -> float | None:
        """Millijoules of an image, the median of the processes."""
        return median(found) if (found := self.millijoules.get(name)) else None

    def _keep(self, name: str, process: Process) -> None:
        assert process.footprint is not None, "it has run"
        self.footprints.setdefault(name, []).append(process.footprint)
        if process.millijoules is not None:
            self.millijoules.setdefault(name, []).append(process.millijoules)


def bound_cpus(allowed: tuple[int, ...] | None, threads: int) -> tuple[int, ...] | None:
    """One processor a thread, the last ones; None where there are fewer."""
    usable = sorted(os.sched_getaffinity(0)) if allowed is None else list(allowed)
    return tuple(usable[-threads:]) if len(usable) >= threads else None


def _subject(subjects: Sequence[Subject], name: str, candidates: Sequence[Candidate]) -> Subject:
    return subjects[candidates.index(_named(candidates, name))]


def _named(candidates: Sequence[Candidate], name: str) -> Candidate:
    names = [c.name for c in candidates]
    if len(set(names)) != len(names):
        raise BadInput(f"variant names must differ, got {', '.join(names)}")
    if name not in names:
        raise BadInput(f"no variant {name!r} to compare with; given: {', '.join(names) or 'none'}")
    return candidates[names.index(name)]


@contextmanager
def _progress(title: str, how: LatencySettings, console: Console | None) -> Iterator[Callable[[int], None]]:
    # No refresh thread: it would take CPU time from the calls. The bar is drawn between rounds.
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    where = console or Console(stderr=True)
    hidden = not where.is_terminal
    with Progress(*columns, console=where, transient=True, auto_refresh=False, disable=hidden) as progress:
        task = progress.add_task(title, total=how.processes * len(how.batch_sizes) * how.calls)
        yield lambda calls: progress.update(task, advance=calls, refresh=True)
