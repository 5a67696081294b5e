"""Profile one variant of a run."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.profile.files import write_profile
from benchmarks.profile.terminal import print_profile
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line, open_run, variant_name
from export.targets import Target
from quant.encoding import freeze
from quant.errors import BadInput
from quant.profile import profile
from quant.recipe import Recipe, near

__all__ = ["profile_run"]


def profile_run(
    root: Path, recipe: str | None, target: str | None, images: int, console: Console | None = None
) -> Path:
    """Compare a calibrated model with its float reference on validation images; print and write the result.

    Args:
        root: the folder of a run whose models are quantized.
        recipe: name of one of its recipes, the first by default.
        target: name of one of its targets, whose number formats are used, the first by default.
        images: how many validation images, evenly spaced over the set.
        console: where the table goes to.

    Returns:
        The folder written: ``<recipe>-<target>/profile``.

    Raises:
        BadInput: the run has no such recipe or target, or is not quantized yet.
    """
    line = open_run(root)
    chosen = _recipe(line, recipe)
    where = _target(line, target)
    calibrated = line.calibrated(chosen)
    freeze(calibrated, where.encoding(line.config.saturation_guard))
    some = Spread(line.validation, images)
    size = line.batch_size(line.config.calibration_batch)
    batches = calibration_batches(some, line.loaded.preprocessing, size)(None)
    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    name = variant_name(chosen, where)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(f"profiling {name}", total=len(some))
        found = profile(calibrated, batches, lambda count: bar.advance(task, count))
    folder = line.workspace.path(f"{name}/profile")
    folder.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "model": line.loaded.name,
        "recipe": chosen.name,
        "target": where.name,
        "data": line.validation_in_words,
    }
    write_profile(found, folder, about)
    print_profile(found, f"{line.loaded.name}, {name}", console)
    return folder


def _recipe(line: Line, name: str | None) -> Recipe:
    known = {recipe.name: recipe for recipe in line.recipes}
    if name is None:
        return line.recipes[0]
    if name not in known:
        raise BadInput(f"the run has no recipe '{name}'{near(name, known)}; it has {', '.join(known)}")
    return known[name]


def _target(line: Line, name: str | None) -> Target:
    known = {target.name: target for target in line.targets}
    if name is None:
        return line.targets[0]
    if name not in known:
        raise BadInput(f"the run has no target '{name}'{near(name, known)}; it has {', '.join(known)}")
    return known[name]
