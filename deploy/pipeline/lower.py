"""Stage 3: write each calibrated model for each target, and check that it computes what was calibrated."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.images import source_identity
from deploy.pipeline.line import Line, calibration_file, float_variant, qdq_file, variant_name
from deploy.pipeline.workspace import Step
from deploy.tensorrt.build import check_file
from export.lower import lower
from export.lower_float import lower_float
from export.parity import check_parity
from export.targets import Target
from quant.recipe import Recipe

__all__ = ["steps"]


def steps(line: Line) -> list[Step]:
    """One for each recipe and target, and for the float model where a target has a graph of its own."""
    floats = [_float_step(line, target) for target in line.targets if target.lowers_float]
    return floats + [_step(line, recipe, target) for recipe in line.recipes for target in line.targets]


def _float_step(line: Line, target: Target) -> Step:
    name = float_variant(target)
    return Step(
        name=f"lower {name}",
        inputs=lambda: {
            "float": line.workspace.sha256(FLOAT_FILE),
            "target": target.name,
            "images": source_identity(line.config.calibration, line.parity_source),
        },
        outputs=tuple(f"{name}/{file}" for file in ("model.onnx", "lowering.json")),
        work=partial(_lower_float, line, target),
        packages=("quant", "export", "deploy"),
    )


def _lower_float(line: Line, target: Target, folder: Path) -> None:
    folder = folder / float_variant(target)
    folder.mkdir(parents=True)
    plain, images = line.workspace.path(FLOAT_FILE), line.parity_images.numpy()
    report = lower_float(plain, target, folder / "model.onnx", images)
    _check_rules(target, folder / "model.onnx")
    _write(folder / "lowering.json", report.to_dict())


def _step(line: Line, recipe: Recipe, target: Target) -> Step:
    name = variant_name(recipe, target)
    return Step(
        name=f"lower {name}",
        inputs=partial(_inputs, line, recipe, target),
        outputs=tuple(f"{name}/{file}" for file in ("model.onnx", "lowering.json", "parity.json")),
        work=partial(_lower, line, recipe, target),
        packages=("quant", "export", "deploy"),
    )


def _inputs(line: Line, recipe: Recipe, target: Target) -> Any:
    return {
        "model": line.model_identity,
        "calibration": line.workspace.sha256(calibration_file(recipe)),
        "qdq": line.workspace.sha256(qdq_file(recipe)),
        "target": target.name,
        "guard": target.encoding(line.config.saturation_guard).guard.value,  # 'auto' depends on the CPU
        "images": source_identity(line.config.calibration, line.parity_source),
        "settings": line.config.export.model_dump(mode="json"),
    }


def _lower(line: Line, recipe: Recipe, target: Target, folder: Path) -> None:
    folder = folder / variant_name(recipe, target)
    folder.mkdir(parents=True)
    model = folder / "model.onnx"
    qdq = line.workspace.path(qdq_file(recipe))
    calibrated = line.calibrated(recipe)
    guard, accuracy = line.config.saturation_guard, line.config.export.weight_only_accuracy
    report = lower(qdq, calibrated, target, model, {}, guard, accuracy)
    _check_rules(target, model)
    _write(folder / "lowering.json", report.to_dict())
    images, settings = line.parity_images, line.config.export
    parity = check_parity(calibrated, report, line.graph, model, target, images, settings)
    parity.render(Console(stderr=True))
    _write(folder / "parity.json", parity.to_dict())


def _check_rules(target: Target, model: Path) -> None:
    """Refuse here what no builder would take, not when an engine is wanted."""
    if target.name.startswith("tensorrt"):
        check_file(model)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
