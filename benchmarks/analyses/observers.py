"""Observers, granularities and quantizers of a run's recipes side by side, as FQ-ViT's ablation has them.

One row per recipe: what it chooses (:mod:`benchmarks.analyses.observer_settings`), what the run measured of
the exported file, and the mean QSNR of its layers' outputs (accumulated error, ``quant.profile``), which is
measured here. Source: FQ-ViT (Lin et al. 2022, section 4.2 and its ablations).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt

from benchmarks.accuracy import Accuracy
from benchmarks.analyses.findings import Cell, Findings, Table
from benchmarks.analyses.observer_drawings import Bar, draw_bars, draw_map
from benchmarks.analyses.observer_settings import Setting, setting_of
from benchmarks.analyses.registry import register_analysis
from benchmarks.profile.drawing import Drawing
from benchmarks.results import load_summary
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line, variant_name
from export.targets import Target
from quant.encoding import freeze
from quant.profile import profile
from quant.progress import Progress
from quant.recipe import Recipe

__all__ = ["Observed", "ObserversOptions", "observers", "table_of"]

_COLUMNS = (
    *("recipe", "observer", "weights", "stream", "LayerNorm", "softmax"),
    *("top-1, %", "drop, points", "top-5, %", "agreement, %"),
    *("logit SQNR, dB", "logit cosine, %", "mean layer QSNR, dB"),
)
_NOTE = (
    "Weights and stream: one scale per layer or per channel; the stream is what LayerNorm and the residual "
    "additions read. All other activations have one scale per layer. Float: not quantized."
)


class ObserversOptions(BaseModel):
    """Options.

    Attributes:
        recipes: which of the run's recipes are looked at; all where none is named.
        target: the target whose files and number formats are meant; the first one where it is left out.
        images: validation images for the layers' QSNR, evenly spaced over the set; 0 leaves it out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipes: tuple[str, ...] = ()
    target: str | None = None
    images: NonNegativeInt = 16


@dataclass(frozen=True)
class Observed:
    """One recipe.

    Attributes:
        name: of the recipe.
        setting: what it chooses.
        accuracy: of the exported file, where the run measured it.
        layer_qsnr_db: mean over the layers whose QSNR is finite, where it was measured.
    """

    name: str
    setting: Setting
    accuracy: Accuracy | None
    layer_qsnr_db: float | None


@register_analysis("observers", ObserversOptions)
def observers(line: Line, options: ObserversOptions, progress: Progress) -> Findings:
    """Put the run's recipes side by side.

    Args:
        line: a run that was benched.
        options: see there.
        progress: told which recipe is looked at.

    Returns:
        Table ``recipes``; drawings of every recipe's top-1 and logit cosine, and, where several observers
        share everything else, of top-1 by observer and the rest.

    Raises:
        BadInput: a recipe or the target does not exist.
    """
    summary = load_summary(line.workspace.path("summary.json"))
    measured = {variant.name: variant.accuracy for variant in summary.variants}
    recipes = [line.recipe_named(name) for name in options.recipes] or list(line.recipes)
    target = line.target_named(options.target)
    found = []
    for index, recipe in enumerate(recipes):
        progress("QSNR of layers", index, len(recipes))
        qsnr = _layer_qsnr(line, recipe, target, options.images) if options.images else None
        accuracy = measured.get(variant_name(recipe, target))
        found.append(Observed(recipe.name, setting_of(recipe), accuracy, qsnr))
    progress("QSNR of layers", len(recipes), len(recipes))
    base = summary.base.accuracy
    return Findings(
        tables=(table_of(found, base),),
        drawings=tuple(_drawings(found, base)),
        figures={row.name: _figures(row, base) for row in found},
        title="Observers and granularities",
    )


def table_of(found: Sequence[Observed], base: Accuracy | None) -> Table:
    """One row per recipe; drops are against ``base``, the float model."""
    return Table("recipes", "Recipes side by side", _COLUMNS, tuple(_row(row, base) for row in found), _NOTE)


def _row(row: Observed, base: Accuracy | None) -> tuple[Cell, ...]:
    own = row.setting
    figures = _figures(row, base)
    shares = [_percent(figures[name]) for name in ("top1", "drop", "top5", "agreement")]
    return (
        *(row.name, own.observer, own.weights, own.stream, own.layer_norm, own.softmax),
        *shares,
        _rounded(figures["sqnr_db"]),
        _percent(figures["cosine"]),
        _rounded(figures["layer_qsnr_db"]),
    )


def _figures(row: Observed, base: Accuracy | None) -> dict[str, JsonValue]:
    own = row.accuracy
    return {
        "top1": None if own is None else own.top1,
        "drop": None if own is None or base is None else base.top1 - own.top1,
        "top5": None if own is None else own.top5,
        "agreement": None if own is None else own.agreement,
        "sqnr_db": None if own is None else own.sqnr_db,
        "cosine": None if own is None else own.cosine,
        "layer_qsnr_db": row.layer_qsnr_db,
    }


def _percent(share: JsonValue) -> float | None:
    return round(100 * share, 2) if isinstance(share, float) else None


def _rounded(value: JsonValue) -> float | None:
    return round(value, 2) if isinstance(value, float) else None


def _layer_qsnr(line: Line, recipe: Recipe, target: Target, images: int) -> float | None:
    calibrated = line.calibrated(recipe)
    freeze(calibrated, target.encoding(line.config.saturation_guard))
    size = line.batch_size(line.config.calibration_batch)
    some = Spread(line.validation, images)
    batches = calibration_batches(some, line.loaded.preprocessing, size)(None)
    layers = profile(calibrated, batches, lambda _: None).layers
    finite = [layer.output.qsnr_db for layer in layers if math.isfinite(layer.output.qsnr_db)]
    return fmean(finite) if finite else None


def _drawings(found: Sequence[Observed], base: Accuracy | None) -> list[Drawing]:
    bars = [
        Bar(row.name, 100 * row.accuracy.top1, _percent(row.accuracy.cosine), row.setting.fully_quantized)
        for row in found
        if row.accuracy is not None
    ]
    if not bars:
        return []
    drawn = [draw_bars(bars, None if base is None else 100 * base.top1)]
    cells = _cells(found)
    return [*drawn, draw_map(cells)] if cells else drawn


def _cells(found: Sequence[Observed]) -> dict[str, Mapping[str, float]]:
    """Top-1 by observer and by everything else, where at least two observers share that."""
    groups: dict[tuple[str, ...], dict[str, float]] = {}
    for row in found:
        if row.accuracy is not None:
            rest = groups.setdefault(row.setting.without_observer, {})
            rest.setdefault(row.setting.observer, 100 * row.accuracy.top1)
    shared = {rest: tops for rest, tops in groups.items() if len(tops) > 1}
    names = dict.fromkeys(observer for tops in shared.values() for observer in tops)
    return {
        observer: {
            f"weights: {rest[0]}\nstream: {rest[1]}\nsoftmax: {rest[3]}": tops[observer]
            for rest, tops in shared.items()
            if observer in tops
        }
        for observer in names
    }
