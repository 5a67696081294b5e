"""The steps that let a peer quantize: its input files, then its script in its own environment."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.lib.format import open_memmap

from benchmarks.harness.shared import shared_packages
from benchmarks.peers.process import PeerFailed, Say, stream
from benchmarks.peers.registry import FILES, Peer
from deploy.cpu import cpu_info
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.images import source_identity
from deploy.pipeline.line import Line
from deploy.pipeline.workspace import Step, Workspace
from quant.data.batches import batches
from quant.files import file_sha256

__all__ = ["FLOAT_MODEL", "IMAGES", "MADE", "input_steps", "make_step", "model_file"]

IMAGES = "inputs/calibration.npy"
FLOAT_MODEL = "inputs/float.onnx"
MADE = "made.json"
_FAILED = "failed.txt"
_LOG = "log.txt"
_PROTOCOL = Path(__file__).parent / "scripts" / "peer_protocol.py"
# One thread, so that a peer's sums are added in the same order each time; and no telemetry.
_VARIABLES = {"OMP_NUM_THREADS": "1", "NNCF_CI": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def input_steps(line: Line) -> list[Step]:
    """What every peer is given: the float model and the calibration images of the run."""

    def images() -> Any:
        return {
            "images": source_identity(line.config.calibration, line.calibration),
            "preprocessing": line.loaded.preprocessing.to_metadata(),
        }

    return [
        Step(
            "peer-model",
            lambda: line.workspace.sha256(FLOAT_FILE),
            (FLOAT_MODEL,),
            partial(_write_model, line),
            (),
        ),
        Step("peer-images", images, (IMAGES,), partial(_write_images, line), ()),
    ]


def make_step(peer: Peer, workspace: Workspace, python: Callable[[], Path], show: Say) -> Step:
    """The step in which a peer's script makes its model.

    Its work raises `PeerFailed` where the script fails or leaves no model; what the script printed is kept
    beside where the model would be.

    Args:
        peer: what is made.
        workspace: the folder of all peers, with the files of :func:`input_steps`.
        python: gives the interpreter of its environment; called only when there is something to do.
        show: told each line that the script prints.
    """
    options = peer.options(cpu_info())

    def inputs() -> Any:
        return {
            "files": {name: workspace.sha256(name) for name in (FLOAT_MODEL, IMAGES)},
            "options": options,
            "script": [file_sha256(peer.script), file_sha256(_PROTOCOL)],
            "requirements": file_sha256(peer.requirements),
        }

    def work(folder: Path) -> None:
        _make(peer, options, workspace, python(), folder / peer.name, show)

    names = (*FILES[peer.backend], MADE, _LOG)
    return Step(f"peer-make {peer.name}", inputs, tuple(f"{peer.name}/{n}" for n in names), work, ())


def model_file(peer: Peer) -> str:
    """Where a peer's model lies in the folder of all peers."""
    return f"{peer.name}/{FILES[peer.backend][0]}"


def _make(
    peer: Peer, options: dict[str, Any], workspace: Workspace, python: Path, out: Path, show: Say
) -> None:
    out.mkdir(parents=True)
    (out / "options.json").write_text(json.dumps(options), encoding="utf-8")
    files = {
        "--model": workspace.path(FLOAT_MODEL),
        "--images": workspace.path(IMAGES),
        "--options": out / "options.json",
        "--out": out,
    }
    command: list[str | Path] = [python.absolute(), "-P", peer.script]
    for name, path in files.items():
        command += [name, path.absolute()]
    try:
        with shared_packages() as variables, (out / _LOG).open("w", encoding="utf-8") as log:
            stream(command, show, log, os.environ | _VARIABLES | variables, out)
        missing = [name for name in (*FILES[peer.backend], MADE) if not (out / name).is_file()]
        if missing:
            raise PeerFailed(f"its script ended without leaving {', '.join(missing)}")
    except PeerFailed as error:
        kept = workspace.path(f"{peer.name}/{_LOG}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / _LOG, kept)
        told = out / _FAILED
        if told.is_file():
            raise PeerFailed(told.read_text(encoding="utf-8").strip()) from error
        raise


def _write_model(line: Line, folder: Path) -> None:
    """The float model without its record of shapes.

    PyTorch's exporter also records the shapes of weights. Tools that rewrite weights, as ONNX Runtime's do to
    those of Gemm, leave the record as it was and then find that it contradicts them.
    """
    model = onnx.load(line.workspace.path(FLOAT_FILE))
    del model.graph.value_info[:]
    path = folder / FLOAT_MODEL
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def _write_images(line: Line, folder: Path) -> None:
    source, preprocessing = line.calibration, line.loaded.preprocessing
    path = folder / IMAGES
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(source), *preprocessing.input_size)
    written = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    start = 0
    for batch in batches(source, preprocessing, line.config.calibration_batch):
        written[start : start + len(batch.images)] = batch.images.numpy()
        start += len(batch.images)
    written.flush()
