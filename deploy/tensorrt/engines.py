"""From the lowered models of a run to engines, kept in the cache and laid beside the models."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.line import FLOAT, HALF, Line, float_variant, variant_name
from deploy.tensorrt.build import EngineSettings, check_file
from deploy.tensorrt.cache import MANIFEST, PLAN, Engine, EngineCache, Identity
from deploy.tensorrt.child import build_apart
from deploy.tensorrt.device import current_device
from deploy.tensorrt.library import Library, find_library
from quant.errors import BadInput, Unsupported
from quant.files import file_sha256, replace_bytes
from quant.progress import Progress, silent
from quant.recipe import near

__all__ = [
    "MANIFEST",
    "PLAN",
    "TARGET",
    "Built",
    "build_engine",
    "build_run",
    "check_builds_here",
    "lay",
    "variants",
]

TARGET = "tensorrt"
_SUMMARY = "summary.json"


@dataclass(frozen=True)
class Built:
    """The engine of a variant.

    Attributes:
        variant: its name.
        plan: its file beside the variant's model.
        manifest: beside it.
        fresh: whether it was built now, not found in the cache.
        size_bytes: of the plan.
    """

    variant: str
    plan: Path
    manifest: Path
    fresh: bool
    size_bytes: int


def build_engine(
    model: Path,
    settings: EngineSettings,
    cache: EngineCache,
    library: str | None = None,
    timeout_s: float | None = None,
    progress: Progress = silent,
) -> Engine:
    """The engine of a model, from the cache where it is there.

    Args:
        model: an ONNX file.
        settings: of the engine.
        cache: where engines are kept.
        library: key of :data:`deploy.tensorrt.library.LIBRARIES`; the first that is installed by default.
        timeout_s: the longest that building may take, in seconds.
        progress: told the builder's phases.

    Raises:
        BadInput: the model cannot be read, or a setting does not fit.
        Unsupported: no library is installed, it needs a GPU that is not here, or it does not take the model.
    """
    found = find_library(library)
    identity = _identity(model, settings, found)

    def make(plan: Path) -> None:
        check_file(model)
        timings = cache.timing_cache(identity)
        build_apart(model, plan, settings, found.key, timings, timeout_s, progress)

    return cache.get(identity, make)


def variants(line: Line) -> dict[str, str]:
    """What engines of a run can be built of: variant to its model, relative to the run's folder.

    ``fp32`` is the plain float model, ``fp16`` the same in float16; the others are named as their recipes.

    Raises:
        BadInput: the run is not lowered for TensorRT.
    """
    if TARGET not in [target.name for target in line.targets]:
        raise BadInput(
            f"{line.workspace.root}: the run has no target {TARGET}; add it to `targets` and run it again"
        )
    target = line.target_named(TARGET)
    found = {FLOAT: FLOAT_FILE, HALF: f"{float_variant(target)}/model.onnx"}
    return found | {recipe.name: f"{variant_name(recipe, target)}/model.onnx" for recipe in line.recipes}


def build_run(
    line: Line,
    chosen: Sequence[str],
    settings: EngineSettings,
    cache: EngineCache,
    library: str | None,
    say: Callable[[str], None],
    progress: Progress = silent,
) -> list[Built]:
    """Build the engines of a run's variants for TensorRT.

    Args:
        line: a run that is lowered for target tensorrt.
        chosen: names of :func:`variants`; all of them where empty.
        settings: of the engines.
        cache: where engines are kept.
        library: see :func:`build_engine`.
        say: told what happens.
        progress: told the builder's phases.

    Raises:
        BadInput: the run has no such variant or is not lowered for TensorRT; else as :func:`build_engine`.
        Unsupported: as :func:`build_engine`.
    """
    known = variants(line)
    for name in chosen:
        if name not in known:
            raise BadInput(f"the run has no variant '{name}'{near(name, known)}; it has {', '.join(known)}")
    built = []
    for name in chosen or known:
        line.workspace.sha256(known[name])  # says which stage to run where it is missing
        say(f"build {name}")
        model = line.workspace.path(known[name])
        engine = build_engine(model, settings, cache, library, progress=progress)
        plan, manifest = lay(engine, model.parent, _measured(line, known[name]))
        built.append(Built(name, plan, manifest, engine.fresh, plan.stat().st_size))
        if not engine.fresh:
            say(f"build {name}: found in the engine cache")
    return built


def check_builds_here(library: Library) -> str | None:
    """The GPU that a library builds for; None where it needs none.

    Raises:
        Unsupported: it needs one, and there is none.
    """
    if not library.needs_gpu:
        return None
    device = current_device()
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


def _measured(line: Line, model: str) -> dict[str, Any] | None:
    """What the run's summary knows of a model; None before it was measured."""
    path = line.workspace.path(_SUMMARY)
    try:
        variants = json.loads(path.read_bytes())["variants"]
        (found,) = [variant for variant in variants if variant["file"] == model]
        return {key: found[key] for key in ("accuracy", "latency", "note")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _model_sha256(model: Path) -> str:
    """Of the file, and of those that it keeps its weights in."""
    own = file_sha256(model)
    try:
        tensors = onnx.load(model, load_external_data=False).graph.initializer
    except DecodeError:
        return own  # it will be refused
    outside = {e.value for t in tensors for e in t.external_data if e.key == "location"}
    files = [model.parent / name for name in sorted(outside)]
    parts = [own, *(file_sha256(file) for file in files if file.is_file())]
    return own if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _identity(model: Path, settings: EngineSettings, library: Library) -> Identity:
    if not model.is_file():
        raise BadInput(f"{model}: cannot be read: no such file")
    device = check_builds_here(library)
    return Identity(_model_sha256(model), library.key, library.version, device, settings)
