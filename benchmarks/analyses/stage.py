"""The stages behind the measurements: profiles and analyses."""

import importlib
import pkgutil
from functools import partial
from pathlib import Path
from typing import Any

import benchmarks.analyses
from benchmarks.analyses.findings import FOLDER, write_findings
from benchmarks.analyses.registry import Analysis, get_analysis
from benchmarks.measure_run import SUMMARY
from benchmarks.profile.run import profile_variant
from deploy.pipeline.config import AnalysisConfig
from deploy.pipeline.images import source_identity
from deploy.pipeline.line import Line, calibration_file, variant_name
from deploy.pipeline.progress_bar import progress_bar
from deploy.pipeline.workspace import Step
from quant.mixed.sensitivity import check_metric
from quant.recipe import Recipe, parse

__all__ = ["analysis_steps", "check_analyses", "profile_steps"]

_CODE = ("quant", "export", "deploy", "benchmarks")


def check_analyses(line: Line) -> None:
    """Find what is wrong with the profile and the analyses that a run asks for, before anything is done.

    Raises:
        BadInput: naming it.
    """
    for metric in line.config.profile.sensitivity if line.config.profile else ():
        check_metric(metric)
    profile_steps(line)
    for entry in line.config.analyses:
        _checked(entry)


def profile_steps(line: Line) -> list[Step]:
    """One for each variant that the configuration wants profiled."""
    how = line.config.profile
    if how is None:
        return []
    target = line.target_named(how.target)
    recipes = line.recipes if how.recipes is None else [line.recipe_named(name) for name in how.recipes]

    def inputs(recipe: Recipe) -> Any:
        return {
            "calibration": line.workspace.sha256(calibration_file(recipe)),
            "images": source_identity(line.config.validation, line.validation),
            "calibration images": source_identity(line.config.calibration, line.calibration),
            "settings": how.model_dump(mode="json", exclude={"recipes"}),
            "target": target.name,
            "guard": line.config.saturation_guard,
        }

    def work(recipe: Recipe, folder: Path) -> None:
        where = folder / variant_name(recipe, target) / "profile"
        profile_variant(line, recipe, target, how.images, how.sensitivity, how.bits, where)

    return [
        Step(
            name=f"profile {variant_name(recipe, target)}",
            inputs=partial(inputs, recipe),
            outputs=(f"{variant_name(recipe, target)}/profile/",),
            work=partial(work, recipe),
            packages=("quant", "benchmarks"),
        )
        for recipe in recipes
    ]


def analysis_steps(line: Line) -> list[Step]:
    """One for each analysis of the configuration."""

    def inputs(entry: AnalysisConfig) -> Any:
        return {
            "summary": line.workspace.sha256(SUMMARY),
            "calibrations": [line.workspace.sha256(calibration_file(recipe)) for recipe in line.recipes],
            "model": line.model_identity,
            "settings": entry.model_dump(mode="json"),
        }

    def work(entry: AnalysisConfig, folder: Path) -> None:
        analysis, options = _checked(entry)
        with progress_bar(entry.folder) as show:
            found = analysis.run(line, options, show)
        write_findings(found, folder / FOLDER / entry.folder)

    return [
        Step(
            name=f"analyse {entry.folder}",
            inputs=partial(inputs, entry),
            outputs=(f"{FOLDER}/{entry.folder}/",),
            work=partial(work, entry),
            packages=_CODE,
        )
        for entry in line.config.analyses
    ]


def _checked(entry: AnalysisConfig) -> tuple[Analysis, Any]:
    for module in pkgutil.iter_modules(benchmarks.analyses.__path__):  # each registers what it has
        importlib.import_module(f"benchmarks.analyses.{module.name}")
    analysis = get_analysis(entry.name)
    return analysis, parse(analysis.options, entry.options, f"analyses, {entry.folder}")
