"""A device's raw result as a summary, by the code that makes the run's own figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import Accuracy, Predictions, score
from benchmarks.environment import Environment
from benchmarks.kit.content import Entry, Kit
from benchmarks.kit.record import Record, check_models, load_record, record_path
from benchmarks.kit.result import Result, read_result
from benchmarks.latency import Latency, Noise, noise_of, summarize
from benchmarks.memory import Memory, memory_of
from benchmarks.multilabel import score_bits
from benchmarks.onnx_file import file_size
from benchmarks.results import Summary, Variant
from deploy.cpu import parse_cpuinfo
from quant.errors import BadInput

__all__ = ["Measured", "belongs", "merge"]

_FLAGS = ("flags", "Features")  # the instruction sets, which the environment has
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
    """

    identity: str
    kit: Kit
    summary: Summary
    answers: Mapping[str, Predictions]
    entries: Mapping[str, Entry]
    host: Mapping[str, Predictions]
    emulated: bool = False

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
    """Make the summary of what a device measured.

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
    entries = {entry.name: entry for entry in kit.variants if entry.key in result.variants}
    if kit.reference not in result.answers:
        why = result.errors.get(kit.reference, "it is not in the result")
        raise BadInput(f"{path}: {kit.reference}, which others are compared with, was not measured: {why}")
    told = [*result.answers.values(), *record.answers.values()]
    if len({one.outputs for one in told}) > 1:
        raise BadInput(f"{path}: its logits are not those of this model: their number differs")
    answers = _answers(result.answers, kit, min(one.count for one in told))
    latency, memory, noise = _timed(result, kit)
    reference = answers[kit.reference]
    base = file_size(run / entries[kit.reference].source)
    found = []
    for name, entry in entries.items():
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
                note=_note(result, name),
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
        environment=_environment(result),
        settings=_settings(result, kit),
        variants=tuple(found),
        noise=noise,
    )
    host = _host(record, kit)
    return Measured(result.kit, kit, summary, answers, entries, host, result.device.emulated)


def _note(result: Result, name: str) -> str | None:
    if name in result.errors:
        return f"failed there: {result.errors[name]}"
    told = [result.remarks.get(name), _EMULATED if result.device.emulated else None]
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
    result: Result, kit: Kit
) -> tuple[dict[str, tuple[Latency, ...]], dict[str, Memory], tuple[Noise, ...]]:
    """Latency, memory and noise; of the variants that did not fail in any set, and none of an emulator's."""
    if result.device.emulated:
        return {}, {}, ()
    how, again = result.settings, _FLOAT_AGAIN.format(kit.reference)
    names = [name for name in (result.sets or ({},))[0] if all(name in one for one in result.sets)]
    if kit.reference not in names:
        return {}, {}, ()
    times = {name: [one[name].times for one in result.sets] for name in names}
    load = {name: [one[name].load_ms for one in result.sets] for name in names}
    figures = summarize(times, load, kit.reference, batch=how.batch, threads=how.threads, cpus=how.cpus)
    twin = figures.pop(again, None)
    noise = () if twin is None else (noise_of(figures[kit.reference], twin),)
    memory = {
        name: memory_of([one[name].footprint for one in result.sets], batch=how.batch, threads=how.threads)
        for name in figures
    }
    return {name: (one,) for name, one in figures.items()}, memory, noise


def _environment(result: Result) -> Environment:
    device = result.device
    _, isa = parse_cpuinfo("\n".join(f"{key}: {value}" for key, value in device.cpuinfo.items()))
    return Environment(
        cpu=device.name,
        architecture=device.architecture,
        isa=isa,
        cores=device.cores,
        governor=result.before.governor,
        memory_gib=device.memory_gib,
        system=device.system,
        python=device.python,
        packages=dict(result.packages),
        commit=None,
        thread_variables=dict(device.thread_variables),
    )


def _settings(result: Result, kit: Kit) -> dict[str, Any]:
    """What else there is to know of the device and the measurement."""
    states = {"before": result.before, "after": result.after}
    return {
        "task": kit.task,
        "kit": result.kit[:16],
        "device": {
            "board": result.device.board or None,
            **{key: value for key, value in result.device.cpuinfo.items() if key not in _FLAGS},
            "parts": list(result.device.parts),
            **{name: state.model_dump(mode="json") for name, state in states.items()},
        },
        "measured": {**result.settings.model_dump(mode="json"), "processes": len(result.sets)},
        "left out": dict(result.skipped),
    }
