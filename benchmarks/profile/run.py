"""Profile one variant of a run."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from benchmarks.profile.files import write_profile
from benchmarks.profile.measure import asked, measure_layers, untuned
from benchmarks.profile.terminal import print_profile, print_sensitivity
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line, open_run, variant_name
from export.targets import Target
from quant.encoding import freeze
from quant.errors import BadInput
from quant.profile import profile
from quant.recipe import Recipe, near

__all__ = ["profile_run"]


def profile_run(
    root: Path,
    recipe: str | None,
    target: str | None,
    images: int,
    metrics: Sequence[str] = (),
    bits: Sequence[int] = (4, 6, 8),
    console: Console | None = None,
) -> Path:
    """Compare a calibrated model with its float reference on validation images; print and write the result.

    Args:
        root: the folder of a run whose models are quantized.
        recipe: name of one of its recipes, the first by default.
        target: name of one of its targets, whose number formats are used, the first by default.
        images: how many validation images, evenly spaced over the set.
        metrics: names of :mod:`quant.mixed.sensitivity` that the layers are measured with, too. They see the
            same images, which are held in memory then, and plain formats: not the target's codes, not
            weights tuned to one width.
        bits: the widths of those measurements.
        console: where the table goes to.

    Returns:
        The folder written: ``<recipe>-<target>/profile``.

    Raises:
        BadInput: the run has no such recipe or target, or is not quantized yet; a metric or a width does not
            exist.
        Unsupported: metrics are asked for and a layer's format has only one width.
    """
    line = open_run(root)
    chosen = _recipe(line, recipe)
    where = _target(line, target)
    calibrated = line.calibrated(chosen)
    settings = asked(metrics, bits, calibrated) if metrics else None
    freeze(calibrated, where.encoding(line.config.saturation_guard))
    some = Spread(line.validation, images)
    size = line.batch_size(line.config.calibration_batch)
    preprocessing = line.loaded.preprocessing
    batches = calibration_batches(some, preprocessing, size)(None)
    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    name = variant_name(chosen, where)
    sensitivity = None
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(f"{name}: {phase}", total=None)
            bar.update(tasks[phase], completed=done, total=total or None)

        task = bar.add_task(f"profiling {name}", total=len(some))
        seen = list(batches) if settings else batches
        found = profile(calibrated, seen, lambda count: bar.advance(task, count))
        if settings:
            learned_from = calibration_batches(line.calibration, preprocessing, size)
            plain = untuned(calibrated, line.graph, learned_from, show)
            sensitivity = measure_layers(plain, list(seen), metrics, settings, show)
    folder = line.workspace.path(f"{name}/profile")
    folder.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "model": line.loaded.name,
        "recipe": chosen.name,
        "target": where.name,
        "data": line.validation_in_words,
    }
    write_profile(found, folder, about, sensitivity)
    print_profile(found, f"{line.loaded.name}, {name}", console)
    if sensitivity:
        print_sensitivity(sensitivity, console)
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
