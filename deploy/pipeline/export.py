"""Stage 2: write the float model, and each calibrated one with Q/DQ pairs, as ONNX."""

from functools import partial
from pathlib import Path
from typing import Any

from deploy.pipeline.line import FLOAT, Line, calibration_file, qdq_file
from deploy.pipeline.workspace import Step
from export.onnx_export import export_float, export_qdq
from quant.recipe import Recipe

__all__ = ["FLOAT_FILE", "steps"]

FLOAT_FILE = f"{FLOAT}/model.onnx"
_PACKAGES = ("quant", "export")


def steps(line: Line) -> list[Step]:
    """One for the float model and one for each recipe."""
    float_step = Step(
        f"export {FLOAT}", partial(_inputs, line), (FLOAT_FILE,), partial(_float, line), _PACKAGES
    )
    return [float_step, *(_qdq_step(line, recipe) for recipe in line.recipes)]


def _qdq_step(line: Line, recipe: Recipe) -> Step:
    return Step(
        name=f"export {recipe.name}",
        inputs=lambda: [_inputs(line), line.workspace.sha256(calibration_file(recipe))],
        outputs=(qdq_file(recipe),),
        work=partial(_qdq, line, recipe),
        packages=_PACKAGES,
    )


def _inputs(line: Line) -> Any:
    settings = line.config.export.model_dump(mode="json", exclude={"parity", "parity_images"})
    return {"model": line.model_identity, "settings": settings}


def _float(line: Line, folder: Path) -> None:
    path = folder / FLOAT_FILE
    path.parent.mkdir(parents=True)
    export_float(line.graph, line.example, path, line.config.export, line.metadata())


def _qdq(line: Line, recipe: Recipe, folder: Path) -> None:
    path = folder / qdq_file(recipe)
    path.parent.mkdir(parents=True)
    calibrated = line.calibrated(recipe)
    export_qdq(calibrated, line.example, path, line.config.export, line.metadata(calibrated.recipe))
