"""Models to run and what comes back, the same whether ONNX Runtime runs them here or in the emulator."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.arm64 import device
from benchmarks.arm64.emulator import WORK, Emulator
from deploy.onnxruntime.build import Optimization, SessionSettings
from deploy.onnxruntime.run import OrtRunner
from deploy.runner import Array
from quant.errors import InternalError

__all__ = ["Answer", "Job", "do_here", "do_on_arm"]

_LEVELS = {
    Optimization.OFF: "ORT_DISABLE_ALL",
    Optimization.BASIC: "ORT_ENABLE_BASIC",
    Optimization.ALL: "ORT_ENABLE_ALL",
}


@dataclass(frozen=True)
class Job:
    """A model and what it is fed.

    Attributes:
        name: of its folder.
        model: the ONNX file's bytes.
        feeds: input name to array, for each call.
        outputs: which are wanted.
        optimization: how far ONNX Runtime may rewrite it.
        config: session config entries.
        graph: whether the executed graph is wanted, too.
    """

    name: str
    model: bytes
    feeds: Sequence[Mapping[str, Array]]
    outputs: tuple[str, ...]
    optimization: Optimization = Optimization.ALL
    config: Mapping[str, str] = field(default_factory=dict)
    graph: bool = False

    @property
    def digest(self) -> str:
        """Of everything that the answer depends on, but for who computes it."""
        found = hashlib.sha256(self.model)
        how = [self.outputs, self.optimization.value, dict(self.config), self.graph]
        found.update(json.dumps(how, sort_keys=True).encode())
        for feed in self.feeds:
            for name, array in sorted(feed.items()):
                found.update(f"{name} {array.dtype} {array.shape}".encode())
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a job gave.

    Attributes:
        outputs: output name to array, the calls' results in a row.
        graph: the graph that was executed, if that was wanted.
        operators: and how often each operator ran in one call, as the profile has it.
    """

    outputs: Mapping[str, Array]
    graph: Path | None = None
    operators: Mapping[str, int] = field(default_factory=dict)


def do_here(job: Job) -> Answer:
    """Run a job by this machine's ONNX Runtime; its graph is not kept."""
    with OrtRunner(job.model, SessionSettings(optimization=job.optimization, config=job.config)) as runner:
        parts = [runner.session.run(list(job.outputs), dict(feed)) for feed in job.feeds]
    return Answer(_joined([dict(zip(job.outputs, values, strict=True)) for values in parts]))


def do_on_arm(jobs: Sequence[Job], emulator: Emulator, folder: Path) -> list[Answer]:
    """Run jobs by ARM's ONNX Runtime; what ``folder`` has of earlier runs is not computed again.

    Args:
        jobs: with different names.
        emulator: the processor.
        folder: kept between runs, for this processor and root file system alone.

    Raises:
        Unsupported: the program failed or crashed in the emulator.
        InternalError: it was not the processor that was asked for.
    """
    places = [f"{job.name}-{job.digest[:12]}" for job in jobs]
    open_jobs = [(job, place) for job, place in zip(jobs, places, strict=True) if not _done(folder / place)]
    if open_jobs:
        folder.mkdir(parents=True, exist_ok=True)
        for job, place in open_jobs:
            _write(job, folder / place)
        (folder / "jobs.json").write_text(json.dumps([place for _, place in open_jobs]))
        shutil.copyfile(device.__file__, folder / "device.py")
        emulator.run(["/usr/bin/python3", "device.py", WORK], folder)
        about = json.loads((folder / "machine.json").read_text())
        if (about["architecture"], about["dot_product"]) != ("aarch64", emulator.cpu.dot_product):
            raise InternalError(f"the emulator was to be a {emulator.cpu.name}, and is {about}")
    return [_read(job, folder / place) for job, place in zip(jobs, places, strict=True)]


def _done(folder: Path) -> bool:
    return (folder / "done.json").is_file()


def _write(job: Job, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(job.model)
    for part, feed in enumerate(job.feeds):
        np.savez(folder / f"feeds-{part}.npz", **feed)  # type: ignore[arg-type]
    about = {
        "level": _LEVELS[job.optimization],
        "config": dict(job.config),
        "outputs": job.outputs,
        "parts": len(job.feeds),
        "graph": job.graph,
    }
    (folder / "job.json").write_text(json.dumps(about))


def _read(job: Job, folder: Path) -> Answer:
    parts = []
    for part in range(len(job.feeds)):
        with np.load(folder / f"outputs-{part}.npz") as found:
            parts.append({name: found[name] for name in job.outputs})
    if not job.graph:
        return Answer(_joined(parts))
    operators = json.loads((folder / "operators.json").read_text())
    return Answer(_joined(parts), folder / "executed.onnx", operators)


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
