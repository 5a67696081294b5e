"""Profile variants of a run."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.profile.files import write_profile
from benchmarks.profile.measure import asked, measure_layers, untuned
from benchmarks.profile.terminal import print_profile, print_sensitivity
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line, open_run, variant_name
from deploy.pipeline.progress_bar import progress_bar
from export.targets import Target
from quant.encoding import freeze
from quant.profile import profile
from quant.recipe import Recipe

__all__ = ["profile_run", "profile_variant"]


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
    chosen, where = line.recipe_named(recipe), line.target_named(target)
    folder = line.workspace.path(f"{variant_name(chosen, where)}/profile")
    profile_variant(line, chosen, where, images, metrics, bits, folder, console)
    return folder


def profile_variant(
    line: Line,
    recipe: Recipe,
    target: Target,
    images: int,
    metrics: Sequence[str],
    bits: Sequence[int],
    folder: Path,
    console: Console | None = None,
) -> None:
    """Profile a variant of a run into ``folder``, as :func:`profile_run` does."""
    calibrated = line.calibrated(recipe)
    settings = asked(metrics, bits, calibrated) if metrics else None
    freeze(calibrated, target.encoding(line.config.saturation_guard))
    some = Spread(line.validation, images)
    size = line.batch_size(line.config.calibration_batch)
    preprocessing = line.loaded.preprocessing
    batches = calibration_batches(some, preprocessing, size)(None)
    name = variant_name(recipe, target)
    sensitivity = None
    with progress_bar(name) as show:
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            show("profiling", done, len(some))

        seen = list(batches) if settings else batches
        found = profile(calibrated, seen, tell)
        if settings:
            learned_from = calibration_batches(line.calibration, preprocessing, size)
            plain = untuned(calibrated, line.graph, learned_from, show)
            sensitivity = measure_layers(plain, list(seen), metrics, settings, show)
    folder.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "model": line.loaded.name,
        "recipe": recipe.name,
        "target": target.name,
        "data": line.validation_in_words,
    }
    write_profile(found, folder, about, sensitivity)
    print_profile(found, f"{line.loaded.name}, {name}", console)
    if sensitivity:
        print_sensitivity(sensitivity, console)
