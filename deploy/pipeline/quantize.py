"""Stage 1: show the calibration images to the model and keep what was learned."""

from functools import partial
from pathlib import Path

from deploy.pipeline.images import calibration_batches, source_identity
from deploy.pipeline.line import Line, calibration_file
from deploy.pipeline.progress_bar import progress_bar
from deploy.pipeline.workspace import Step
from quant.calibrate import CalibratedGraph, calibrate
from quant.recipe import Recipe
from quant.store import save_calibration
from quant.tuning.checkpoint import Checkpoint

__all__ = ["steps"]


def steps(line: Line) -> list[Step]:
    """One for each recipe."""
    return [
        Step(
            name=f"quantize {recipe.name}",
            inputs=lambda recipe=recipe: {  # type: ignore[misc]  # mypy cannot type a bound loop variable
                "model": line.model_identity,
                "preprocessing": line.loaded.preprocessing.to_metadata(),
                "images": source_identity(line.config.calibration, line.calibration),
                "batch": line.config.calibration_batch,
                "recipe": recipe.model_dump(mode="json"),
            },
            outputs=(calibration_file(recipe),),
            work=partial(_quantize, line, recipe),
            packages=("quant",),
        )
        for recipe in line.recipes
    ]


def _quantize(line: Line, recipe: Recipe, folder: Path) -> None:
    path = folder / calibration_file(recipe)
    path.parent.mkdir(parents=True)
    checkpoint = Checkpoint(line.workspace.kept(f"training-{recipe.name}.pt"))
    calibrated = _calibrated(line, recipe, checkpoint)
    save_calibration(calibrated, path, line.fingerprint)
    checkpoint.clear()
    line.keep(calibrated)


def _calibrated(line: Line, recipe: Recipe, checkpoint: Checkpoint) -> CalibratedGraph:
    images = len(line.calibration)
    known = {"statistics": min(images, recipe.method_images), "calibrating": images}
    size = line.batch_size(line.config.calibration_batch)
    with progress_bar(recipe.name, known) as show:
        batches = calibration_batches(line.calibration, line.loaded.preprocessing, size)
        return calibrate(line.graph, recipe, batches, show, checkpoint)
