"""Measure a list of variants: accuracy one by one, latency against each other, memory in fresh processes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data
from pydantic import BaseModel, ConfigDict, PositiveInt
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.accuracy import Accuracy, LabelledBatch, collect, score
from benchmarks.latency import Latency, LatencySettings, summarize, take_turns
from benchmarks.memory import measure_memory
from benchmarks.metrics import Floats
from benchmarks.results import Variant
from deploy.onnxruntime.build import SessionSettings
from deploy.onnxruntime.run import OrtRunner
from quant.errors import BadInput

__all__ = ["BenchSettings", "Candidate", "bench_accuracy", "bench_latency", "bench_variants", "file_size"]

Batches = Callable[[], Iterable[LabelledBatch]]


class BenchSettings(BaseModel):
    """What is measured and how.

    Attributes:
        latency: turns, batch sizes and threads.
        memory_batch: images per call while memory is measured, with the first thread count of ``latency``.
        memory_repeats: fresh processes per variant.
        input_name: the model input that takes the images.
        output_name: the output that holds the logits; ``None`` for the only one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency: LatencySettings = LatencySettings()
    memory_batch: PositiveInt = 1
    memory_repeats: PositiveInt = 3
    input_name: str = "input"
    output_name: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A model file to measure.

    Attributes:
        name: unique name, e.g. ``int8-ort-x86``.
        target: what it was made for.
        path: the ONNX file.
        session: how its session is built; the thread count is set by each measurement.
    """

    name: str
    target: str
    path: Path
    session: SessionSettings


def bench_variants(
    candidates: Sequence[Candidate],
    batches: Batches,
    settings: BenchSettings,
    *,
    reference: str = "fp32",
    total: int | None = None,
    console: Console | None = None,
) -> tuple[Variant, ...]:
    """Measure everything, in the order of ``candidates``.

    Args:
        candidates: the models, the reference among them.
        batches: opens the labelled images; called once per variant, always giving the same ones.
        settings: see `BenchSettings`.
        reference: name of the candidate the others are compared with.
        total: number of images when known, for the progress bar.
        console: where progress is drawn; standard error when left out.

    Raises:
        BadInput: names clash, the reference is missing, or a model or the images cannot be used.
    """
    accuracy = bench_accuracy(
        candidates, batches, settings, reference=reference, total=total, console=console
    )
    images = np.asarray(next(iter(batches())).images, dtype=np.float32)
    latency = bench_latency(candidates, images, settings, reference=reference, console=console)
    base = file_size(_named(candidates, reference).path)
    return tuple(
        Variant(
            name=c.name,
            target=c.target,
            file=c.path.name,
            size_bytes=(size := file_size(c.path)),
            size_ratio=base / size,
            accuracy=accuracy[c.name],
            latency=latency[c.name],
            memory=measure_memory(
                c.path,
                replace(c.session, intra_op_threads=settings.latency.threads[0]),
                batch=settings.memory_batch,
                repeats=settings.memory_repeats,
            ),
        )
        for c in candidates
    )


def bench_accuracy(
    candidates: Sequence[Candidate],
    batches: Batches,
    settings: BenchSettings,
    *,
    reference: str = "fp32",
    total: int | None = None,
    console: Console | None = None,
) -> dict[str, Accuracy]:
    """Accuracy of each candidate, one loaded at a time; arguments as in `bench_variants`.

    Raises:
        BadInput: names clash, the reference is missing, or a model or the images cannot be used.
    """
    threads = max(settings.latency.threads)
    first = _named(candidates, reference)
    answers = {}
    for candidate in (first, *(c for c in candidates if c.name != reference)):
        with OrtRunner(candidate.path, replace(candidate.session, intra_op_threads=threads)) as runner:
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
    return {c.name: score(answers[c.name], None if c.name == reference else truth) for c in candidates}


def bench_latency(
    candidates: Sequence[Candidate],
    images: Floats,
    settings: BenchSettings,
    *,
    reference: str = "fp32",
    console: Console | None = None,
) -> dict[str, tuple[Latency, ...]]:
    """Latency of all candidates taking turns, for every thread count and batch size.

    All candidates are loaded at once, anew for each thread count.

    Args:
        candidates: the models, the reference among them.
        images: some images [B, C, H, W] to feed, repeated to fill a batch.
        settings: see `BenchSettings`.
        reference: name of the candidate the others are compared with.
        console: where progress is drawn; standard error when left out.

    Raises:
        BadInput: names clash, the reference is missing, or a model cannot be loaded or fed.
    """
    _named(candidates, reference)
    how = settings.latency
    found: dict[str, list[Latency]] = {c.name: [] for c in candidates}
    for threads in how.threads:
        with ExitStack() as stack:
            runners = {
                c.name: stack.enter_context(OrtRunner(c.path, replace(c.session, intra_op_threads=threads)))
                for c in candidates
            }
            for batch in how.batch_sizes:
                feeds = {settings.input_name: np.resize(images, (batch, *images.shape[1:]))}
                with _rounds(f"latency, batch {batch}, threads {threads}", how, console) as advance:
                    times = take_turns(runners, feeds, warmup=how.warmup, calls=how.calls, on_round=advance)
                figures = summarize(times, reference, batch=batch, threads=threads, seed=how.seed)
                for name, latency in figures.items():
                    found[name].append(latency)
    return {name: tuple(entries) for name, entries in found.items()}


def file_size(path: Path) -> int:
    """Bytes of an ONNX file and of the external weight files it names.

    Raises:
        BadInput: a file is missing or is not an ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        tensors = [t for t in model.graph.initializer if uses_external_data(t)]
        outside: set[str] = {e.value for t in tensors for e in t.external_data if e.key == "location"}
        return path.stat().st_size + sum((path.parent / name).stat().st_size for name in outside)
    except OSError as error:
        raise BadInput(f"{error.filename or path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # protobuf's own error type is not public
        raise BadInput(f"{path}: not an ONNX model: {error}") from error


def _named(candidates: Sequence[Candidate], name: str) -> Candidate:
    names = [c.name for c in candidates]
    if len(set(names)) != len(names):
        raise BadInput(f"variant names must differ, got {', '.join(names)}")
    if name not in names:
        raise BadInput(f"no variant {name!r} to compare with; given: {', '.join(names) or 'none'}")
    return candidates[names.index(name)]


@contextmanager
def _rounds(title: str, how: LatencySettings, console: Console | None) -> Iterator[Callable[[], None]]:
    # No refresh thread: it would take CPU time from the calls. The bar is drawn between rounds.
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    where = console or Console(stderr=True)
    hidden = not where.is_terminal
    with Progress(*columns, console=where, transient=True, auto_refresh=False, disable=hidden) as progress:
        task = progress.add_task(title, total=1 + how.warmup + how.calls)
        yield lambda: progress.update(task, advance=1, refresh=True)
