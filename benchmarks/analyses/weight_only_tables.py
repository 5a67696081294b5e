"""The tables of the analysis ``weight_only``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.analyses.findings import Cell, Table
from benchmarks.analyses.weight_only_errors import LayerErrors, decibels
from benchmarks.analyses.weight_only_float import FloatLayer
from benchmarks.analyses.weight_only_sizes import FLOAT_BYTES, Stored, format_bytes
from benchmarks.results import Summary, Variant
from quant.methods.registry import MethodNote
from quant.recipe import Recipe

__all__ = ["WeightOnly", "activations_table", "choices_table", "layers_table", "plain_twin", "variants_table"]

PERCENT = 100.0
_VARIANTS = (
    *("recipe", "bits per weight", "weights, kB", "weights smaller, times", "file, kB"),
    *(
        "file smaller, times",
        "top-1, %",
        "drop, points",
        "same answer, %",
        "logit SQNR, dB",
        "weight error, %",
    ),
    *("output error of plain rounding's", "layers below plain rounding", "run as MatMulNBits"),
)
_LAYERS = (
    *("recipe", "layer", "bits", "group", "weight error, %", "weight SQNR, dB", "weight error so far, %"),
    *("output error, %", "output SQNR, dB", "of plain rounding's"),
    *("accumulated error, %", "accumulated SQNR, dB"),
    *("FP32, bytes", "codes, bytes", "scales, bytes", "zero points, bytes", "by the format, bytes"),
    *("bits per weight", "smaller, times"),
)
_ACTIVATIONS = (
    *("layer", "channels", "silent channels", "least mean |x|", "median mean |x|", "largest mean |x|"),
    *("largest / median", "90th / 10th percentile"),
)


@dataclass(frozen=True, eq=False)
class WeightOnly:
    """What is known of a recipe.

    Attributes:
        recipe: the recipe.
        layers: its errors.
        stored: the bytes of its weights by layer.
        notes: what its methods did.
        executed: how many of its layers the runtime executes as MatMulNBits; None where that was not audited.
        variant: what the run measured of it; None where it was not.
    """

    recipe: Recipe
    layers: tuple[LayerErrors, ...]
    stored: Mapping[str, Stored]
    notes: Sequence[MethodNote]
    executed: int | None
    variant: Variant | None

    @property
    def bytes(self) -> int:
        """Of all its weights."""
        return sum(stored.total for stored in self.stored.values())

    @property
    def weights(self) -> int:
        """How many weights it rounds."""
        return sum(layer.weights for layer in self.layers)

    @property
    def smaller(self) -> float:
        """How many times smaller they are than in float32."""
        return FLOAT_BYTES * self.weights / self.bytes

    def against(self, plain: "WeightOnly") -> list[float]:
        """Output error of each layer over that of another recipe."""
        pairs = zip(self.layers, plain.layers, strict=True)
        return [a.output / b.output if b.output else math.inf for a, b in pairs]


def plain_twin(own: WeightOnly, results: Sequence[WeightOnly]) -> WeightOnly | None:
    """The recipe with the same formats and no methods, if the run has it."""

    def formats(recipe: Recipe) -> object:
        return recipe.model_dump(exclude={"name", "description", "methods", "method_images", "tuning_images"})

    same = (r for r in results if not r.recipe.methods and formats(r.recipe) == formats(own.recipe))
    return next(same, None)


def variants_table(results: Sequence[WeightOnly], summary: Summary) -> Table:
    """One row for each recipe."""
    base, right = summary.base, summary.base.accuracy
    rows: list[tuple[Cell, ...]] = []
    for own in results:
        plain, variant = plain_twin(own, results), own.variant
        seen = None if variant is None else variant.accuracy
        ratios = None if plain is None else own.against(plain)
        count = len(own.layers)
        rows.append(
            (
                own.recipe.name,
                8 * own.bytes / own.weights,
                own.bytes / 1e3,
                own.smaller,
                None if variant is None else variant.size_bytes / 1e3,
                None if variant is None else base.size_bytes / variant.size_bytes,
                None if seen is None else PERCENT * seen.top1,
                None if seen is None or right is None else PERCENT * (right.top1 - seen.top1),
                None if seen is None or seen.agreement is None else PERCENT * seen.agreement,
                None if seen is None else seen.sqnr_db,
                PERCENT * own.layers[-1].weight_so_far,
                None if ratios is None else math.exp(sum(map(_log, ratios)) / count),
                None if ratios is None else f"{sum(r < 1 for r in ratios)} of {count}",
                None if own.executed is None else f"{own.executed} of {count}",
            )
        )
    note = (
        "Weights: codes, scales and zero points of the rounded layers as the file has them, against float32. "
        "Weight error: of all of them as one vector. Output error of plain rounding's: the geometric mean "
        "over the layers, each alone on the float model's input, of its error over that of the recipe with "
        "the same format and no methods. Run as MatMulNBits: the layers that the audit found so in the graph "
        "that ONNX Runtime executes."
    )
    return Table("variants", "Weight-only recipes: size, accuracy and error", _VARIANTS, tuple(rows), note)


def layers_table(results: Sequence[WeightOnly]) -> Table:
    """One row for each recipe and layer."""
    rows: list[tuple[Cell, ...]] = []
    for own in results:
        plain = plain_twin(own, results)
        ratios = [None] * len(own.layers) if plain is None else own.against(plain)
        for layer, ratio in zip(own.layers, ratios, strict=True):
            stored = own.stored[layer.name]
            rows.append(
                (
                    *(own.recipe.name, layer.name, layer.bits, layer.group),
                    *(PERCENT * layer.weight, decibels(layer.weight), PERCENT * layer.weight_so_far),
                    *(PERCENT * layer.output, decibels(layer.output), ratio),
                    *(PERCENT * layer.accumulated, decibels(layer.accumulated)),
                    *(FLOAT_BYTES * layer.weights, stored.codes, stored.scales, stored.zero_points),
                    format_bytes(layer),
                    8 * stored.total / layer.weights,
                    FLOAT_BYTES * layer.weights / stored.total,
                )
            )
    note = (
        "Errors are relative to the float layer, in its own units: channel scales that a method folded are "
        "taken back. Output error: of the layer alone, on its input in the float model. Accumulated: behind "
        "the rounded layers in front of it. Weight error so far: of all weights up to this layer as one "
        "vector. By the format: codes, float32 scales and packed zero points, counted without looking at "
        "the file."
    )
    return Table("layers", "Every layer's errors and bytes", _LAYERS, tuple(rows), note)


def activations_table(layers: Sequence[FloatLayer]) -> Table:
    """What each layer reads in the float model, by channel."""
    rows: list[tuple[Cell, ...]] = []
    for layer in layers:
        means = layer.inputs.mean_abs
        silent = int((means == 0).sum())
        low, median, high = (float(means.quantile(q)) for q in (0.1, 0.5, 0.9))
        largest = float(means.max())
        rows.append(
            (
                *(layer.name, len(means), silent, float(means.min()), median, largest),
                *(largest / median if median else None, high / low if low else None),
            )
        )
    note = "Of each channel over all images and tokens. AWQ's channel scales are powers of mean |x|."
    return Table("activations", "What each layer reads in the float model", _ACTIVATIONS, tuple(rows), note)


def choices_table(results: Sequence[WeightOnly]) -> Table:
    """What the methods chose."""
    rows = [
        (own.recipe.name, note.method, note.layer, "yes" if note.applied else "no", note.text)
        for own in results
        for note in own.notes
    ]
    columns = ("recipe", "method", "layer", "applied", "what, or why not")
    return Table("choices", "What the methods did", columns, tuple(rows))


def _log(ratio: float) -> float:
    return math.log(ratio) if ratio > 0 else -math.inf
