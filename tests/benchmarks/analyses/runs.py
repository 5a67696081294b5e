"""Runs that were never run: a line whose graph and calibrations are at hand, for analyses to read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from torch import Tensor, fx

from benchmarks.accuracy import Accuracy
from benchmarks.environment import Environment, describe_environment
from benchmarks.results import Summary, Variant, save_summary
from benchmarks.statistics import Interval
from deploy.pipeline.config import RunConfig
from deploy.pipeline.line import FLOAT, Line
from quant.calibrate import calibrate
from quant.data.config import SourceConfig
from quant.models.config import ModelConfig
from quant.recipe import Recipe

DIGITS = SourceConfig(kind="digits", split="validation", limit=4)


def line_of(
    root: Path, graph: fx.GraphModule, recipes: Sequence[Recipe], images: Tensor, right: Mapping[str, int]
) -> Line:
    """A line of calibrated recipes, and a summary that says how many of 100 images each variant has right."""
    line = Line(RunConfig(model=ModelConfig(name="none"), calibration=DIGITS, validation=DIGITS), root)
    made = {recipe.name: calibrate(graph, recipe, lambda n: (images[:n],)) for recipe in recipes}
    # In the place of what they are computed from; a line keeps one calibration only, and has no files here.
    vars(line).update(graph=graph, recipes=tuple(recipes), _calibrated=made)
    save_summary(summary_of(right), root / "summary.json")
    return line


def summary_of(right: Mapping[str, int]) -> Summary:
    """Variants by name, ``fp32`` among them, each with so many of 100 images right; files of 1 MiB."""
    variants = [
        Variant(
            name=name,
            target="ort-x86",
            file="model.onnx",
            size_bytes=2**20,
            accuracy=Accuracy(100, n, n / 100, None, 0.0, 0.0, 0.0, 10, Interval(0.0, 1.0)),
        )
        for name, n in right.items()
    ]
    return Summary(
        created=datetime(2026, 1, 1, tzinfo=UTC),
        command="none",
        model="none",
        recipe="none",
        data="none",
        reference=FLOAT,
        environment=_environment(),
        variants=tuple(variants),
    )


@cache
def _environment() -> Environment:
    return describe_environment()
