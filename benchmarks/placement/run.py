"""Search a placement for one variant of a run: measure its layers, plan, measure the models that come out."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.files import write_text
from benchmarks.measure_run import SUMMARY
from benchmarks.placement.judge import Found, judge
from benchmarks.placement.layers import LayerTable, latency_csv, measure_layers
from benchmarks.placement.plans import Plan, make_plans
from benchmarks.placement.timing import TimingSettings
from benchmarks.results import load_summary
from benchmarks.run_variants import float_file
from benchmarks.stages import STAGES, do_stage
from deploy.pipeline.config import copied_config
from deploy.pipeline.images import source_identity
from deploy.pipeline.line import CONFIG, Line, calibration_file, open_run, variant_name
from deploy.pipeline.progress_bar import progress_bar
from deploy.pipeline.workspace import Step
from export.targets import Target
from quant.errors import Unsupported
from quant.mixed.plan import plain_recipe
from quant.recipe import Recipe

__all__ = ["PlaceSettings", "Placement", "place"]

LAYERS = "layers.json"
LATENCY = "latency.csv"


@dataclass(frozen=True)
class PlaceSettings:
    """How a placement is searched.

    Attributes:
        max_drop: points of top-1 that may be lost against the float model.
        images: validation images that the losses of single units are measured on.
        timing: how units are timed.
    """

    max_drop: float = 1.0
    images: int = 64
    timing: TimingSettings = field(default_factory=TimingSettings)


@dataclass(frozen=True)
class Placement:
    """What was found.

    Attributes:
        folder: ``RUN/placement/<variant>``, a run of its own with the start and every plan.
        table: of the units.
        plans: by the name of the recipe that each became.
        found: the models, judged; None where no plan differs from the start.
        recipe: the file of the recipe to take.
    """

    folder: Path
    table: LayerTable
    plans: dict[str, Plan]
    found: Found | None
    recipe: Path

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "recipe": str(self.recipe),
            "layers": asdict(self.table),
            "plans": {name: asdict(plan) for name, plan in self.plans.items()},
            "found": None if self.found is None else asdict(self.found),
        }


def place(
    root: Path,
    recipe: str | None,
    target: str | None,
    settings: PlaceSettings,
    say: Callable[[str], None],
    force: bool = False,
) -> Placement:
    """Search which layers of a variant to quantize on this machine.

    The models that the plans give are made and measured side by side with the start in a run of their own, in
    ``RUN/placement/<variant>``; what was done there is skipped.

    Args:
        root: the folder of a run whose variant is lowered.
        recipe: name of one of its recipes, the first by default.
        target: name of one of its targets, the first by default.
        settings: of the search.
        say: told what happens.
        force: measure again, though nothing has changed.

    Raises:
        BadInput: the run has no such recipe or target, or an earlier stage is not done.
        Unsupported: the target is not run on this machine.
    """
    line = open_run(root)
    chosen, where = line.recipe_named(recipe), line.target_named(target)
    if line.config.task != "classification":
        raise Unsupported(f"octavo place judges classes; the run's task is {line.config.task}")
    if not where.runs_here:
        raise Unsupported(
            f"{where.name} is not run on this machine: a placement is searched by timing layers on the target"
        )
    name = f"placement/{variant_name(chosen, where)}"
    line.workspace.do(_layers_step(line, chosen, where, name, settings), force, say)
    folder = line.workspace.path(name)
    table = LayerTable.from_json((folder / LAYERS).read_text(encoding="utf-8"))
    start = line.calibrated(chosen).recipe  # its widths are decided
    plans = {f"{start.name}_placed{round(100 * p.share)}": p for p in make_plans(table.times, table.losses)}
    recipes = {start.name: start} | {n: _recipe(start, n, plan, table) for n, plan in plans.items()}
    (folder / "recipes").mkdir(exist_ok=True)
    for each in recipes.values():
        write_text(folder / "recipes" / f"{each.name}.yaml", recipe_yaml(each))
    found = None
    if plans:
        _measure(line, folder, list(recipes), where, say, force)
        variants = {variant_name(recipes[n], where): plan for n, plan in plans.items()}
        summary = load_summary(folder / SUMMARY)
        found = judge(summary, variant_name(start, where), variants, settings.max_drop)
    best = start.name if found is None else found.name.removesuffix(f"-{where.name}")
    placement = Placement(folder, table, plans, found, folder / "recipes" / f"{best}.yaml")
    write_text(folder / "placement.json", json.dumps(placement.to_dict(), indent=1) + "\n")
    return placement


def recipe_yaml(recipe: Recipe) -> str:
    """A recipe as a file."""
    return yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False)


def _layers_step(line: Line, recipe: Recipe, target: Target, name: str, settings: PlaceSettings) -> Step:
    variant = variant_name(recipe, target)

    def inputs() -> Any:
        files = (f"{variant}/model.onnx", float_file(line), calibration_file(recipe))
        return {
            "files": [line.workspace.sha256(file) for file in files],
            "images": source_identity(line.config.validation, line.validation),
            "bench": line.config.bench.model_dump(mode="json"),
            "how": asdict(settings.timing) | {"images": settings.images},
        }

    def work(folder: Path) -> None:
        (folder / name).mkdir(parents=True)
        with progress_bar(variant) as show:
            table = measure_layers(line, recipe, target, settings.images, settings.timing, show)
        (folder / name / LAYERS).write_text(table.to_json(), encoding="utf-8")
        (folder / name / LATENCY).write_text(latency_csv(line, recipe, table), encoding="utf-8")

    outputs = tuple(f"{name}/{file}" for file in (LAYERS, LATENCY))
    return Step(f"place {variant}", inputs, outputs, work, ("quant", "export", "deploy", "benchmarks"))


def _recipe(start: Recipe, name: str, plan: Plan, table: LayerTable) -> Recipe:
    """The start's recipe without the layers of the units that stay float."""
    floats = [layer for unit in plan.plain for layer in table.layers[unit]]
    text = f"{start.name}, {len(floats)} layers in float: by measurement they are not worth quantizing"
    return plain_recipe(start, name=name, description=text, exclude=(*start.exclude, *floats))


def _measure(
    line: Line,
    folder: Path,
    recipes: list[str],
    target: Target,
    say: Callable[[str], None],
    force: bool,
) -> None:
    """Do a run with the recipes, whose settings are those of the run it belongs to."""
    config = yaml.safe_load(copied_config(line.workspace.path(CONFIG), folder))
    bench = config["bench"] | {"pytorch": False}
    for name in ("batch_sizes", "threads"):
        bench[name] = bench[name][:1]
    bench.pop("load", None)
    for later in ("profile", "analyses"):
        config.pop(later, None)
    changes = {"recipe": [f"recipes/{name}.yaml" for name in recipes], "targets": [target.name]}
    write_text(folder / CONFIG, yaml.safe_dump(config | changes | {"bench": bench}, sort_keys=False))
    inner = open_run(folder)
    inner.check()
    for stage in STAGES:
        do_stage(inner, stage, partial(_indented, say), force and stage == "bench")


def _indented(say: Callable[[str], None], text: str) -> None:
    say(f"  {text}")
