"""Run a subject's lowered files on ARM's runtime and on this machine's, and compare the answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arm64.audited import Audited, audit_arm
from benchmarks.arm64.compare import Apart, apart
from benchmarks.arm64.emulator import Emulator
from benchmarks.arm64.held import Held, Roundings, compare_held, hold
from benchmarks.arm64.jobs import Answer, Job, do_here, do_on_arm
from benchmarks.arm64.subject import ARM, X86, Subject
from benchmarks.metrics import sqnr_db
from deploy.audit.macs import INTEGER_OPS
from deploy.cpu import has_vnni
from deploy.onnxruntime.build import EXACT_ON_X86, Optimization
from deploy.runner import Array

__all__ = ["Found", "Pair", "Side", "compare_on", "own_differences", "side"]

Logits = NDArray[Any]
_DEFINED = "x86, the same file, as ONNX defines it"
_KERNELS = "x86, the same file, its kernels"


@dataclass(frozen=True, eq=False)
class Side:
    """One lowered file on this machine.

    Attributes:
        target: what it was lowered for.
        output: name of its logits.
        whole: the file with the images.
        held: the file with its roundings taken out.
        codes: that, with the codes that ONNX's definition gives.
        defined: logits [N, K] as ONNX defines the operators: optimizations off.
        kernels: logits by this CPU's integer kernels, where they are exact; else None.
        parts: what ``codes`` gives here, as ONNX defines the operators.
    """

    target: str
    output: str
    whole: Job
    held: Held
    codes: Job
    defined: Logits
    kernels: Logits | None
    parts: Mapping[str, Array]


@dataclass(frozen=True)
class Pair:
    """Logits end to end of two runtimes, in words and figures."""

    what: str
    against: str
    apart: Apart


@dataclass(frozen=True)
class Found:
    """What one ARM processor gave.

    Attributes:
        cpu: its name.
        same_file: target to logits end to end against this machine's, of the same file.
        pairs: logits end to end against all others.
        roundings: target to what it made of the same codes.
        integers: target to how many integer kernels multiplied then, and end to end.
        fake_quant_db: SQNR of the logits against the fake-quant model's.
        audited: the graph that it executed.
        logits: [N, K] of the ``ort-arm64`` lowering.
    """

    cpu: str
    same_file: Mapping[str, Pair]
    pairs: tuple[Pair, ...]
    roundings: Mapping[str, Roundings]
    integers: Mapping[str, tuple[int, int]]
    fake_quant_db: float
    audited: Audited
    logits: Logits


def side(subject: Subject, target: str) -> Side:
    """Run one lowered file here."""
    model = subject.model(target)
    held, (value,), (output,) = hold(model), model.graph.input, model.graph.output
    feeds = [{value.name: batch} for batch in subject.batches]
    whole = Job(f"logits-{target}", model.SerializeToString(), feeds, (output.name,), graph=True)
    asked = (*held.codes, output.name)
    made = do_here(Job("codes", held.whole.SerializeToString(), feeds, asked, Optimization.OFF)).outputs
    starts = np.cumsum([0, *(len(batch) for batch in subject.batches)])
    fed = [
        {name: made[name][a:b] for name in held.codes} | {name: feed[name] for name in held.own}
        for a, b, feed in zip(starts, starts[1:], feeds, strict=False)
    ]
    codes = Job(f"held-{target}", held.model.SerializeToString(), fed, held.outputs, graph=True)
    return Side(
        target=target,
        output=output.name,
        whole=whole,
        held=held,
        codes=codes,
        defined=made[output.name],
        kernels=_kernels(whole, target),
        parts=do_here(_as_defined(codes)).outputs,
    )


def own_differences(sides: Iterable[Side]) -> dict[str, Pair]:
    """Target to how far this machine's kernels are from the definition, in the same file."""
    return {
        one.target: Pair(f"x86, {one.target} file, its kernels", _DEFINED, apart(one.kernels, one.defined))
        for one in sides
        if one.kernels is not None
    }


def compare_on(
    emulator: Emulator, subject: Subject, sides: Mapping[str, Side], fake_quant: Logits, folder: Path
) -> Found:
    """Run both files on an ARM processor, whole and with codes held.

    Args:
        emulator: the processor.
        subject: the run.
        sides: target to the same files on this machine.
        fake_quant: logits [N, K] of the fake-quant model.
        folder: kept between runs.
    """
    own, other = sides[ARM], sides[X86]
    jobs = [own.whole, own.codes, other.whole, other.codes]
    answers = dict(zip((job.name for job in jobs), do_on_arm(jobs, emulator, folder), strict=True))

    def logits(one: Side) -> Logits:
        return answers[one.whole.name].outputs[one.output]

    there, executed = logits(own), answers[own.whole.name]
    same_file = {name: _same_file(one, logits(one)) for name, one in sides.items()}
    others = [
        (_DEFINED, own.defined),
        (f"x86, the {X86} file: other weights, guarded", _best(other)),
        ("fake-quant model in PyTorch", fake_quant),
    ]
    pairs = [Pair(f"{ARM} file", what, apart(there, values)) for what, values in others]
    return Found(
        cpu=emulator.cpu.name,
        same_file=same_file,
        pairs=(*same_file.values(), *(pair for pair in pairs if pair not in same_file.values())),
        roundings={name: _roundings(one, answers[one.codes.name]) for name, one in sides.items()},
        integers={
            name: (_integers(answers[one.codes.name]), _integers(answers[one.whole.name]))
            for name, one in sides.items()
        },
        fake_quant_db=sqnr_db(fake_quant, there),
        audited=_audited(subject, executed),
        logits=there,
    )


def _same_file(one: Side, there: Logits) -> Pair:
    against = _DEFINED if one.kernels is None else _KERNELS
    return Pair(f"{one.target} file", against, apart(there, _best(one)))


def _kernels(whole: Job, target: str) -> Logits | None:
    """By this CPU's integer kernels: guarded weights never saturate, others do not on a CPU with VNNI.

    ONNX Runtime's exact kernels for other CPUs are of no use for s8 activations: version 1.31.1 then makes a
    graph that it refuses to run ("x_zero_point must be null or 1D").
    """
    if target == ARM and not has_vnni():
        return None
    config = {} if has_vnni() else EXACT_ON_X86
    job = Job(whole.name, whole.model, whole.feeds, whole.outputs, config=config)
    return do_here(job).outputs[whole.outputs[0]]


def _best(one: Side) -> Logits:
    return one.defined if one.kernels is None else one.kernels


def _as_defined(job: Job) -> Job:
    return Job(job.name, job.model, job.feeds, job.outputs, Optimization.OFF)


def _roundings(one: Side, answer: Answer) -> Roundings:
    return compare_held(one.held, answer.outputs, one.parts)


def _integers(answer: Answer) -> int:
    return sum(count for name, count in answer.operators.items() if name in INTEGER_OPS)


def _audited(subject: Subject, answer: Answer) -> Audited:
    assert answer.graph is not None
    return audit_arm(subject.file(ARM), answer.graph, answer.operators)
