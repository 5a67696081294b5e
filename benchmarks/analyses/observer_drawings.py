"""Drawings of recipes side by side: bars, and a map of observers against granularities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from benchmarks.profile.drawing import WIDTH, Drawing, finished
from benchmarks.report.svg import INK, MUTED, SERIES, drawing_style

__all__ = ["Bar", "draw_bars", "draw_map"]

_FULLY, _PARTLY = SERIES[1], SERIES[3]
_ROW, _CELL = 0.24, 0.42  # inches
_EDGE = 118  # of the axis of top-1, where the figures stand


@dataclass(frozen=True)
class Bar:
    """One recipe.

    Attributes:
        name: of the recipe.
        top1: in percent.
        cosine: of the logits with the float model's, in percent; None where it is not known.
        fully: whether the residual stream and the attention weights are quantized, too.
    """

    name: str
    top1: float
    cosine: float | None
    fully: bool


def draw_bars(bars: Sequence[Bar], base: float | None) -> Drawing:
    """Top-1 and logit cosine of each recipe, the first on top.

    Args:
        bars: one or more recipes.
        base: the float model's top-1 in percent.
    """
    title = "Top-1 and logit cosine of each recipe"
    rows = range(len(bars))
    with drawing_style():
        figure = Figure(figsize=(WIDTH, 1.3 + _ROW * len(bars)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        colors = [_FULLY if bar.fully else _PARTLY for bar in bars]
        left.barh(rows, [bar.top1 for bar in bars], height=0.66, color=colors)
        for row, bar in enumerate(bars):
            left.annotate(f"{bar.top1:.1f}", (_EDGE, row), ha="right", va="center", fontsize=8)
        if base is not None:
            left.axvline(base, color=MUTED, lw=0.9, ls="--")
            left.annotate("FP32", (base, -0.7), ha="center", va="bottom", fontsize=8, color=MUTED)
        known = [(bar.cosine, row, colors[row]) for row, bar in enumerate(bars) if bar.cosine is not None]
        right.hlines([row for _, row, _ in known], 0, [value for value, _, _ in known], color=MUTED, lw=0.6)
        right.scatter([c for c, _, _ in known], [r for _, r, _ in known], c=[k for _, _, k in known], s=26)
        left.set_yticks(rows, [bar.name for bar in bars], fontsize=8)
        left.set_ylim(len(bars) - 0.4, -0.7)
        left.set_xlim(0, _EDGE)
        left.set_xlabel("top-1, %")
        right.set_xlim(min(0.0, *(c for c, _, _ in known)) if known else 0.0, 103)
        right.set_xlabel("logit cosine, %")
        left.set_title(title, loc="left", fontsize=11, pad=14)
        words = {"fully quantized": _FULLY, "residual stream or softmax in float": _PARTLY}
        shown = [
            Patch(color=color, label=word)
            for word, color in words.items()
            if color in colors and len(set(colors)) > 1
        ]
        if shown:
            figure.legend(
                handles=shown, frameon=False, fontsize=8, loc="outside lower center", ncols=len(shown)
            )
        return finished(figure, "recipes", title)


def draw_map(cells: Mapping[str, Mapping[str, float]]) -> Drawing:
    """Top-1 as a map.

    Args:
        cells: observer to everything else (a column's label) to top-1 in percent; the columns of an observer
            may be missing.
    """
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    title = "Top-1 by observer and granularity, %"
    with drawing_style():
        figure = Figure(figsize=(WIDTH, 1.4 + _CELL * len(cells)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(cells.values()):
            for x, column in enumerate(columns):
                if column not in row:
                    continue
                strength = 0.08 + 0.72 * row[column] / 100
                axes.add_patch(
                    Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=_FULLY, alpha=strength, lw=0)
                )
                axes.annotate(f"{row[column]:.1f}", (x, y), ha="center", va="center", fontsize=9, color=INK)
        axes.set_xticks(range(len(columns)), columns, fontsize=8)
        axes.set_yticks(range(len(cells)), list(cells), fontsize=8)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(cells) - 0.5, -0.5)
        axes.grid(visible=False)
        axes.set_title(title, loc="left", fontsize=11)
        return finished(figure, "observers", title)
