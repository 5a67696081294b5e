"""The engines of a run: which of its models become engines, and where they are laid."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.line import FLOAT, HALF, Line, float_variant, variant_name
from deploy.tensorrt.build import EngineSettings
from deploy.tensorrt.cache import EngineCache
from deploy.tensorrt.engines import build_engine, lay
from quant.errors import BadInput
from quant.progress import Progress, silent
from quant.recipe import near

__all__ = ["TARGET", "TARGETS", "Built", "build_run", "measured_of", "variants"]

TARGET = "tensorrt"
TARGETS = (TARGET, "tensorrt8")
"""The targets whose models become engines; the first that a run has is the default."""
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


def variants(line: Line, name: str | None = None) -> dict[str, str]:
    """What engines of a run can be built of: variant to its model, relative to the run's folder.

    ``fp32`` is the float model, and for target tensorrt ``fp16`` the same in float16; the others are named as
    their recipes.

    Args:
        line: the run.
        name: one of :data:`TARGETS`; the first that the run has where left out.

    Raises:
        BadInput: the run is not lowered for that target, or for none of them.
    """
    if name is not None and name not in TARGETS:
        raise BadInput(f"engines are built of targets {' and '.join(TARGETS)}, not of '{name}'")
    had = {target.name: target for target in line.targets}
    chosen = next((one for one in ((name,) if name else TARGETS) if one in had), None)
    if chosen is None:
        raise BadInput(
            f"{line.workspace.root}: the run has no target {name or TARGET}; add it to `targets` and run it "
            "again"
        )
    target = had[chosen]
    lowered = f"{float_variant(target)}/model.onnx"
    found = {FLOAT: FLOAT_FILE, HALF: lowered} if target.half_remainder else {FLOAT: lowered}
    return found | {recipe.name: f"{variant_name(recipe, target)}/model.onnx" for recipe in line.recipes}


def build_run(
    line: Line,
    chosen: Sequence[str],
    settings: EngineSettings,
    cache: EngineCache,
    library: str | None,
    say: Callable[[str], None],
    progress: Progress = silent,
    target: str | None = None,
) -> list[Built]:
    """Build the engines of a run's variants for TensorRT.

    Args:
        line: a run that is lowered for one of :data:`TARGETS`.
        chosen: names of :func:`variants`; all of them where empty.
        settings: of the engines.
        cache: where engines are kept.
        library: see :func:`build_engine`.
        say: told what happens.
        progress: told the builder's phases.
        target: see :func:`variants`.

    Raises:
        BadInput: the run has no such variant or is not lowered for TensorRT; else as :func:`build_engine`.
        Unsupported: as :func:`build_engine`.
    """
    known = variants(line, target)
    for name in chosen:
        if name not in known:
            raise BadInput(f"the run has no variant '{name}'{near(name, known)}; it has {', '.join(known)}")
    built = []
    for name in chosen or known:
        line.workspace.sha256(known[name])  # says which stage to run where it is missing
        say(f"build {name}")
        model = line.workspace.path(known[name])
        engine = build_engine(model, settings, cache, library, progress=progress)
        plan, manifest = lay(engine, model.parent, measured_of(line, known[name]))
        built.append(Built(name, plan, manifest, engine.fresh, plan.stat().st_size))
        if not engine.fresh:
            say(f"build {name}: found in the engine cache")
    return built


def measured_of(line: Line, model: str) -> dict[str, Any] | None:
    """What a run's summary knows of a model: accuracy, latency, and how they came about.

    Args:
        line: the run.
        model: relative to its folder.

    Returns:
        The figures as JSON values; None before the run was measured.
    """
    path = line.workspace.path(_SUMMARY)
    try:
        variants = json.loads(path.read_bytes())["variants"]
        (found,) = [variant for variant in variants if variant["file"] == model]
        return {key: found[key] for key in ("accuracy", "latency", "note")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
