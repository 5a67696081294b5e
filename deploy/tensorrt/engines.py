"""From a model to its engine, kept in the cache."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from deploy.tensorrt.build import EngineSettings, check_file
from deploy.tensorrt.cache import MANIFEST, PLAN, Engine, EngineCache, Identity
from deploy.tensorrt.child import build_apart
from deploy.tensorrt.device import Device, current_device
from deploy.tensorrt.library import Library, find_library
from quant.errors import BadInput, Unsupported
from quant.files import file_sha256, replace_bytes
from quant.progress import Progress, silent

__all__ = ["build_engine", "check_builds_here", "lay", "model_sha256"]


def build_engine(
    model: Path,
    settings: EngineSettings,
    cache: EngineCache,
    library: str | None = None,
    timeout_s: float | None = None,
    progress: Progress = silent,
    device: Device | None = None,
) -> Engine:
    """The engine of a model, from the cache where it is there.

    Args:
        model: an ONNX file.
        settings: of the engine.
        cache: where engines are kept.
        library: key of :data:`deploy.tensorrt.library.LIBRARIES`; the first that is installed by default.
        timeout_s: the longest that building may take, in seconds.
        progress: told the builder's phases.
        device: the GPU, for libraries that need one to build; found by pycuda where left out.

    Raises:
        BadInput: the model cannot be read, or a setting does not fit.
        Unsupported: no library is installed, it needs a GPU that is not here, or it does not take the model.
    """
    found = find_library(library)
    identity = _identity(model, settings, found, device)

    def make(plan: Path) -> None:
        check_file(model)
        timings = cache.timing_cache(identity)
        build_apart(model, plan, settings, found.key, timings, timeout_s, progress)

    return cache.get(identity, make)


def check_builds_here(library: Library, device: Device | None = None) -> str | None:
    """The GPU that a library builds for; None where it needs none.

    Raises:
        Unsupported: it needs one, and there is none.
    """
    if not library.needs_gpu:
        return None
    device = device or current_device()
    if device is None:
        raise Unsupported(
            f"{library.name} builds on the GPU that runs the engine, and none is found here (a driver and "
            "pycuda are needed); TensorRT-RTX builds without one: --library tensorrt_rtx"
        )
    return str(device)


def lay(engine: Engine, folder: Path, measured: dict[str, Any] | None = None) -> tuple[Path, Path]:
    """Copy an engine into a folder: ``engine.plan``, and ``engine.json`` with what it was made from.

    Args:
        engine: of the cache.
        folder: where to.
        measured: figures of the model, added to ``engine.json``.

    Returns:
        The two files.
    """
    plan, manifest = folder / PLAN, folder / MANIFEST
    beside = folder / f".{PLAN}.{os.getpid()}.part"
    try:
        shutil.copyfile(engine.plan, beside)
        os.replace(beside, plan)
    finally:
        beside.unlink(missing_ok=True)
    about = engine.manifest if measured is None else {**engine.manifest, "measured": measured}
    replace_bytes(manifest, (json.dumps(about, indent=1) + "\n").encode())
    return plan, manifest


def model_sha256(model: Path) -> str:
    """Of the file, and of those that it keeps its weights in: by it an engine's manifest knows its model."""
    own = file_sha256(model)
    try:
        tensors = onnx.load(model, load_external_data=False).graph.initializer
    except DecodeError:
        return own  # it will be refused
    outside = {e.value for t in tensors for e in t.external_data if e.key == "location"}
    files = [model.parent / name for name in sorted(outside)]
    parts = [own, *(file_sha256(file) for file in files if file.is_file())]
    return own if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _identity(model: Path, settings: EngineSettings, library: Library, device: Device | None) -> Identity:
    if not model.is_file():
        raise BadInput(f"{model}: cannot be read: no such file")
    where = check_builds_here(library, device)
    return Identity(model_sha256(model), library.key, library.version, where, settings)
