"""A device's raw result as summaries, of CPU and of GPU, by the code that makes the run's own figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import Accuracy, Predictions, score
from benchmarks.kit.content import Entry, Kit
from benchmarks.kit.record import Record, check_models, load_record, record_path
from benchmarks.kit.result import EnginePart, Part, Result, read_result
from benchmarks.kit.words import engine_note, environment_of, settings_of
from benchmarks.latency import Latency, Noise, noise_of, summarize
from benchmarks.memory import Memory, memory_of
from benchmarks.multilabel import score_bits
from benchmarks.onnx_file import file_size
from benchmarks.results import Summary, Variant
from quant.errors import BadInput

__all__ = ["Measured", "belongs", "merge", "merge_all"]

_FLOAT_AGAIN = "{} again"  # the reference's second set of processes
_EMULATED = "emulated: its answers count; times and memory would be the emulator's"


@dataclass(frozen=True)
class Measured:
    """A run's models on another device.

    Attributes:
        identity: of the kit.
        kit: what the kit says.
        summary: as if it had been measured in a run there.
        answers: name of a variant to its logits on the device, of the kit's first samples.
        entries: name of a variant to the model that it was there.
        host: key of a model to what the machine that packed the kit answers.
        emulated: whether the device was emulated; then nothing was timed.
        missing: names of the variants that could not be run for want of something.
    """

    identity: str
    kit: Kit
    summary: Summary
    answers: Mapping[str, Predictions]
    entries: Mapping[str, Entry]
    host: Mapping[str, Predictions]
    emulated: bool = False
    missing: frozenset[str] = frozenset()

    def judge(self, own: Predictions, reference: Predictions | None, n: int) -> Accuracy:
        """Accuracy on the kit's first ``n`` samples."""
        return _judge(self.kit, _first(own, n), None if reference is None else _first(reference, n))


def belongs(run: Path, result: Path) -> bool:
    """Whether a result was measured with a kit that was packed from the run.

    Raises:
        BadInput: the result cannot be used.
    """
    return record_path(run, read_result(result).kit).is_file()


def merge(run: Path, path: Path) -> Measured:
    """The first of :func:`merge_all`: that of the CPU, where that was measured."""
    return merge_all(run, path)[0]


def merge_all(run: Path, path: Path) -> tuple[Measured, ...]:
    """Make the summaries of what a device measured: of its CPU by ONNX Runtime, of its GPU by TensorRT.

    Each compares with the float model as it ran it itself. What none of them could run is a row of the first.

    Args:
        run: the folder of the run that the kit was packed from.
        path: the result.

    Raises:
        BadInput: the result cannot be used, is another run's, or its reference could not be measured.
    """
    result = read_result(path)
    record = load_record(run, result.kit)
    kit = record.about
    check_models(run, kit)
    names = {entry.key: entry.name for entry in kit.variants}
    parts = [part for part in result.parts.values() if kit.reference in part.answers]
    lost = {name: f"not run there: {why}" for name, why in result.missing.items()}
    for part in result.parts.values():
        if part not in parts:
            why = part.errors.get(kit.reference, "it is not in the result")
            failed = f"{kit.reference}, which others are compared with, was not measured: {why}"
            if not parts:
                raise BadInput(f"{path}: {failed}")
            lost |= {names[key]: failed for key in part.variants}
    if not parts:
        raise BadInput(f"{path}: nothing was measured")
    told = [*record.answers.values(), *(one for part in parts for one in part.answers.values())]
    if len({one.outputs for one in told}) > 1:
        raise BadInput(f"{path}: its logits are not those of this model: their number differs")
    return tuple(
        _measured(run, result, part, record, {} if number else lost) for number, part in enumerate(parts)
    )


def _measured(run: Path, result: Result, part: Part, record: Record, lost: Mapping[str, str]) -> Measured:
    kit = record.about
    entries = {entry.name: entry for entry in kit.variants if entry.key in part.variants}
    missing = {e.name: e for e in kit.variants if e.name in lost and e.name not in entries}
    told = [*part.answers.values(), *record.answers.values()]
    answers = _answers(part.answers, kit, min(one.count for one in told))
    latency, memory, noise = ({}, {}, ()) if result.device.emulated else _timed(part, kit)
    reference = answers[kit.reference]
    base = file_size(run / entries[kit.reference].source)
    found = []
    for name, entry in {**entries, **missing}.items():
        size = file_size(run / entry.source)
        own = answers.get(name)
        judged = None if own is None else _judge(kit, own, None if name == kit.reference else reference)
        found.append(
            Variant(
                name=name,
                target=entry.target,
                file=entry.source,
                size_bytes=size,
                size_ratio=base / size,
                accuracy=judged,
                latency=latency.get(name),
                memory=memory.get(name),
                note=lost[name] if name in missing else _note(result, part, name),
            )
        )
    n = len(reference.labels)
    summary = Summary(
        created=result.created,
        command="python3 measure.py",
        model=kit.model,
        recipe=kit.recipe,
        data=f"{n} samples of a kit, of {kit.data}",
        reference=kit.reference,
        environment=environment_of(result, part),
        settings=settings_of(result, part, kit),
        variants=tuple(found),
        noise=noise,
    )
    host = _host(record, kit)
    emulated = result.device.emulated
    shown = {**entries, **missing}
    return Measured(result.kit, kit, summary, answers, shown, host, emulated, frozenset(missing))


def _note(result: Result, part: Part, name: str) -> str | None:
    if name in part.errors:
        return f"failed there: {part.errors[name]}"
    told = [part.remarks.get(name), _EMULATED if result.device.emulated else None]
    if isinstance(part, EnginePart):
        told.append(engine_note(part, name))
    return "; ".join(text for text in told if text) or None


def _answers(told: Mapping[str, Any], kit: Kit, n: int) -> dict[str, Predictions]:
    labels = np.asarray(kit.labels, dtype=np.int64)
    return {name: _first(Predictions(one.logits, labels), n) for name, one in told.items()}


def _host(record: Record, kit: Kit) -> dict[str, Predictions]:
    return _answers(record.answers, kit, kit.samples)


def _first(one: Predictions, n: int) -> Predictions:
    return Predictions(one.logits[:n], one.labels[:n])


def _judge(kit: Kit, own: Predictions, reference: Predictions | None) -> Accuracy:
    return (score_bits if kit.task == "multilabel" else score)(own, reference)


def _timed(
    part: Part, kit: Kit
) -> tuple[dict[str, tuple[Latency, ...]], dict[str, Memory], tuple[Noise, ...]]:
    """Latency, memory and noise, of the variants that did not fail in any set."""
    how, again = part.settings, _FLOAT_AGAIN.format(kit.reference)
    names = [name for name in (part.sets or ({},))[0] if all(name in one for one in part.sets)]
    if kit.reference not in names:
        return {}, {}, ()
    times = {name: [one[name].times for one in part.sets] for name in names}
    load = {name: [one[name].load_ms for one in part.sets] for name in names}
    figures = summarize(times, load, kit.reference, batch=how.batch, threads=how.threads, cpus=how.cpus)
    twin = figures.pop(again, None)
    noise = () if twin is None else (noise_of(figures[kit.reference], twin),)
    memory = {
        name: memory_of([one[name].footprint for one in part.sets], batch=how.batch, threads=how.threads)
        for name in figures
    }
    return {name: (one,) for name, one in figures.items()}, memory, noise
