"""The drawings of the analysis ``weight_only``."""

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

from benchmarks.analyses.drawings import Point, draw_trade
from benchmarks.analyses.weight_only_tables import PERCENT, WeightOnly, plain_twin
from benchmarks.profile.drawing import Drawing, finished, layer_rows
from benchmarks.report.svg import SERIES, drawing_style

__all__ = ["draw"]

_ERRORS = {
    "output": "Error of each layer's output, the layer alone",
    "accumulated": "Error of each layer's output, accumulated",
    "weight": "Error of each layer's weight",
}


def draw(results: Sequence[WeightOnly], families: dict[str, str]) -> list[Drawing]:
    """All drawings.

    Args:
        results: the recipes.
        families: what a legend calls recipes, by patterns of their names; the first match counts.
    """
    by_format: dict[str, list[WeightOnly]] = {}
    for own in results:
        by_format.setdefault((plain_twin(own, results) or own).recipe.name, []).append(own)
    drawn = [_layers(same, error, title) for same in by_format.values() for error, title in _ERRORS.items()]
    return [*drawn, *_trades(results, families)]


def _layers(same: Sequence[WeightOnly], error: str, title: str) -> Drawing:
    """One row per layer, one series per recipe of a format."""
    with drawing_style():
        figure, axes = layer_rows(tuple(layer.name for layer in same[0].layers), title)
        for index, own in enumerate(same):
            values = [PERCENT * getattr(layer, error) for layer in own.layers]
            points = [(v, y) for y, v in enumerate(values) if math.isfinite(v)]
            axes.plot(
                [v for v, _ in points],
                [y for _, y in points],
                "o-",
                ms=4,
                lw=0.8,
                color=SERIES[(index + 1) % len(SERIES)],
                label=own.recipe.name,
            )
        axes.set_xlim(left=0)
        axes.set_xlabel("relative error, %")
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
        return finished(figure, f"{error}_{same[0].recipe.name}", title)


def _trades(results: Sequence[WeightOnly], families: dict[str, str]) -> list[Drawing]:
    """What the bytes of the weights are worth: accuracy, and the logits' SQNR."""
    known = [(own, own.variant.accuracy) for own in results if own.variant and own.variant.accuracy]
    if len(known) < 2:
        return []

    def point(own: WeightOnly, worth: float) -> Point:
        name = own.recipe.name
        family = next((text for pattern, text in families.items() if fnmatchcase(name, pattern)), "")
        return Point(name, own.bytes / 1e3, worth, family)

    size = "rounded weights, kB"
    top1 = [point(own, PERCENT * seen.top1) for own, seen in known]
    sqnr = [point(own, seen.sqnr_db) for own, seen in known if seen.sqnr_db is not None]
    drawn = [draw_trade(top1, "accuracy_size", "Accuracy against size", size, "top-1, %")]
    if len(sqnr) > 1:
        drawn.append(draw_trade(sqnr, "sqnr_size", "Logit SQNR against size", size, "logit SQNR, dB"))
    return drawn
