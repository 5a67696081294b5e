"""The steps that judge a model that a peer made: its answers to the validation images, and the audit."""

import json
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.accuracy import Predictions, collect
from benchmarks.peers.make import MADE, model_file
from benchmarks.peers.process import PeerFailed
from benchmarks.peers.registry import FILES, Peer
from benchmarks.peers.remote import RemoteRunner
from deploy.audit import audit_model
from deploy.cpu import cpu_info
from deploy.onnxruntime.run import OrtRunner
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.images import source_identity
from deploy.pipeline.line import FLOAT, Line
from deploy.pipeline.workspace import Step, Workspace
from deploy.runner import Runner
from quant.data.batches import Batch, batches
from quant.errors import BadInput, Unsupported

__all__ = [
    "audit_file",
    "audit_step",
    "load_predictions",
    "predict_float",
    "predict_step",
    "validation_inputs",
]

_AUDITED: Mapping[str, str] = {
    "x86_64": "ort-x86",
    "AMD64": "ort-x86",
    "aarch64": "ort-arm64",
    "arm64": "ort-arm64",
}
_CODE = ("deploy.onnxruntime", "deploy.openvino")


def predict_float(line: Line, console: Console | None = None) -> Step:
    """The float model's answers, which all others are compared with."""

    def inputs() -> Any:
        return {"model": line.workspace.sha256(FLOAT_FILE), **validation_inputs(line)}

    def opened() -> Runner:
        return OrtRunner(line.workspace.path(FLOAT_FILE))

    return Step(
        f"peer-predict {FLOAT}",
        inputs,
        (_answers(FLOAT),),
        partial(_predict, line, FLOAT, opened, console),
        (),
    )


def predict_step(
    peer: Peer, line: Line, workspace: Workspace, python: Callable[[], Path], console: Console | None = None
) -> Step:
    """A peer's answers to the run's validation images.

    ONNX files are run by our ONNX Runtime, as our own variants are; anything else in the peer's environment.
    Its work raises `PeerFailed` where the model cannot be run.

    Args:
        peer: whose model is judged.
        line: the run.
        workspace: the folder of all peers.
        python: gives the interpreter of its environment; called only when there is something to do.
        console: where progress is drawn; standard error when left out.
    """
    files = [f"{peer.name}/{name}" for name in (*FILES[peer.backend], MADE)]

    def inputs() -> Any:
        return {"files": {name: workspace.sha256(name) for name in files}, **validation_inputs(line)}

    def opened() -> Runner:
        model = workspace.path(model_file(peer))
        if peer.backend == "onnxruntime":
            return OrtRunner(model)
        return RemoteRunner(python(), peer.backend, model.absolute(), {})

    work = partial(_predict, line, peer.name, opened, console)
    return Step(f"peer-predict {peer.name}", inputs, (_answers(peer.name),), work, _CODE)


def audit_step(peer: Peer, workspace: Workspace) -> Step | None:
    """What ONNX Runtime really computes on integers in a peer's model; None where something else runs it."""
    target = _AUDITED.get(platform.machine())
    if peer.backend != "onnxruntime" or target is None:
        return None
    model = model_file(peer)

    def work(folder: Path) -> None:
        try:
            report = replace(audit_model(workspace.path(model), target), model=model)
        except (BadInput, Unsupported) as error:
            raise PeerFailed(f"it runs, but cannot be audited: {error}") from error
        path = folder / audit_file(peer)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")

    def inputs() -> Any:
        return [workspace.sha256(model), target, asdict(cpu_info())]

    return Step(f"peer-audit {peer.name}", inputs, (audit_file(peer),), work, ("deploy.audit",))


def audit_file(peer: Peer) -> str:
    """Where the audit of a peer lies in the folder of all peers."""
    return f"{peer.name}/audit.json"


def load_predictions(workspace: Workspace, name: str) -> Predictions:
    """What a predict step left."""
    with np.load(workspace.path(_answers(name))) as stored:
        return Predictions(stored["logits"], stored["labels"])


def validation_inputs(line: Line) -> dict[str, Any]:
    """What answers depend on besides the model."""
    return {
        "images": source_identity(line.config.validation, line.validation),
        "preprocessing": line.loaded.preprocessing.to_metadata(),
        "batch": _batch(line),
        "cpu": asdict(cpu_info()),
    }


def _predict(
    line: Line, name: str, opened: Callable[[], Runner], console: Console | None, folder: Path
) -> None:
    def images() -> Iterator[Batch]:
        return batches(line.validation, line.loaded.preprocessing, _batch(line))

    try:
        with opened() as runner:
            found = collect(
                runner, images(), title=f"accuracy {name}", total=len(line.validation), console=console
            )
    except (BadInput, Unsupported) as error:
        if name == FLOAT:
            raise
        raise PeerFailed(f"it was made, but cannot be run: {' '.join(str(error).split())}") from error
    path = folder / _answers(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, logits=found.logits, labels=found.labels)


def _answers(name: str) -> str:
    return f"{name}/predictions.npz"


def _batch(line: Line) -> int:
    return line.batch_size(line.config.bench.accuracy_batch)
