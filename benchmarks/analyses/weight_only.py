"""Weights alone in integers: errors of weights and outputs, exact sizes, and what accuracy they are worth.

For each recipe of a run that rounds weights and leaves activations in float: the error of every layer's
weight and output, alone and accumulated (:mod:`benchmarks.analyses.weight_only_errors`), the bytes that its
codes, scales and zero points take in the exported file (:mod:`benchmarks.analyses.weight_only_sizes`), and
what the run measured of it. Beside them, what each layer reads in the float model, which is what
activation-aware methods look at.
"""

import json

from pydantic import BaseModel, ConfigDict, JsonValue, PositiveInt

from benchmarks.analyses.findings import Findings
from benchmarks.analyses.registry import register_analysis
from benchmarks.analyses.weight_only_drawings import draw
from benchmarks.analyses.weight_only_errors import LayerErrors, layer_errors
from benchmarks.analyses.weight_only_float import float_layers
from benchmarks.analyses.weight_only_sizes import format_bytes, stored_weights
from benchmarks.analyses.weight_only_tables import (
    WeightOnly,
    activations_table,
    choices_table,
    layers_table,
    variants_table,
)
from benchmarks.results import load_summary
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line, variant_name
from quant.encoding import freeze
from quant.errors import BadInput
from quant.progress import Progress

__all__ = ["WeightOnlyOptions", "weight_only"]

_PHASE = "errors of weights"


class WeightOnlyOptions(BaseModel):
    """Options.

    Attributes:
        recipes: which of the run's recipes are looked at; all that round nothing but weights where none is
            named.
        target: whose files are read; the run's first target where none is named.
        images: validation images that the outputs' errors are measured on, evenly spaced over the set.
        families: what a legend calls the recipes, by patterns of their names; the first match counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipes: tuple[str, ...] = ()
    target: str | None = None
    images: PositiveInt = 64
    families: dict[str, str] = {}


@register_analysis("weight_only", WeightOnlyOptions)
def weight_only(line: Line, options: WeightOnlyOptions, progress: Progress) -> Findings:
    """Compare the run's weight-only recipes with the float model and with each other.

    Args:
        line: a run that was benched.
        options: see there.
        progress: told which recipe is looked at.

    Returns:
        Tables ``variants``, ``layers``, ``activations`` and ``choices``; drawings of the errors by layer for
        each format, and of accuracy against size; figures by recipe.

    Raises:
        BadInput: a recipe does not exist or also rounds activations; there is none to look at.
    """
    summary = load_summary(line.workspace.path("summary.json"))
    measured = {variant.name: variant for variant in summary.variants}
    target = line.target_named(options.target)
    recipes = [line.recipe_named(name) for name in options.recipes] or list(line.recipes)
    some = Spread(line.validation, options.images)
    size = line.batch_size(line.config.calibration_batch)
    images = list(calibration_batches(some, line.loaded.preprocessing, size)(None))
    exact = float_layers(line.graph, images)
    results, left_out = [], []
    for index, recipe in enumerate(recipes):
        progress(_PHASE, index, len(recipes))
        calibrated = line.calibrated(recipe)
        if calibrated.activation_sites():
            left_out.append(recipe.name)
            continue
        freeze(calibrated, target.encoding(line.config.saturation_guard))
        layers = layer_errors(calibrated, exact, images)
        name = variant_name(recipe, target)
        stored = stored_weights(line.workspace.path(f"{name}/model.onnx"), layers)
        executed = _executed(line, name, layers)
        results.append(WeightOnly(recipe, layers, stored, calibrated.notes, executed, measured.get(name)))
    progress(_PHASE, len(recipes), len(recipes))
    if left_out and options.recipes:
        raise BadInput(f"weight_only: {', '.join(left_out)} also rounds activations; name other recipes")
    if not results:
        raise BadInput("weight_only: the run has no recipe that rounds weights alone")
    rounded = {layer.name for own in results for layer in own.layers}
    return Findings(
        tables=(
            variants_table(results, summary),
            activations_table([layer for layer in exact if layer.name in rounded]),
            layers_table(results),
            choices_table(results),
        ),
        drawings=tuple(draw(results, options.families)),
        figures={own.recipe.name: _figures(own) for own in results},
        remarks=tuple(_remarks(results, left_out, len(some))),
        title="Weights alone in integers",
    )


def _executed(line: Line, variant: str, layers: tuple[LayerErrors, ...]) -> int | None:
    """How many layers the runtime executes as MatMulNBits, by the run's audit; None without one."""
    path = line.workspace.path(f"{variant}/audit.json")
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))["multiplications"]
    packed = {entry["module"] for entry in found if entry["op"] == "MatMulNBits"}
    return sum(layer.name in packed for layer in layers)


def _figures(own: WeightOnly) -> JsonValue:
    layers: dict[str, JsonValue] = {
        layer.name: {
            "weight_error": layer.weight,
            "output_error": layer.output,
            "accumulated_error": layer.accumulated,
            "bytes": own.stored[layer.name].total,
            "format_bytes": format_bytes(layer),
            "weights": layer.weights,
        }
        for layer in own.layers
    }
    return {
        "bytes": own.bytes,
        "weights": own.weights,
        "smaller": own.smaller,
        "executed": own.executed,
        "layers": layers,
    }


def _remarks(results: list[WeightOnly], left_out: list[str], images: int) -> list[str]:
    remarks = [f"Errors of outputs are measured on {images} validation images."]
    if left_out:
        remarks.append(f"Left out, because they also round activations: {', '.join(left_out)}.")
    for own in results:
        layers = [layer.name for layer in own.layers if not layer.explained]
        if layers:
            remarks.append(
                f"{own.recipe.name}: a method rewrote {', '.join(layers)} by more than channel scales; these "
                "errors are relative to the rewritten layers."
            )
    return remarks
