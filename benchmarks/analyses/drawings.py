"""Drawings that several analyses share: what precision costs against what it is worth, and stacked parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmarks.profile.drawing import WIDTH, Drawing, finished, layer_rows, powers_of_ten
from benchmarks.report.pareto import front
from benchmarks.report.svg import INK, MUTED, SERIES, drawing_style

__all__ = ["Point", "best_points", "draw_stacked", "draw_trade"]

_MARKS = "osD^vPX"
_NAMED = 6
_HEIGHT = 4.2  # inches


@dataclass(frozen=True)
class Point:
    """One choice.

    Attributes:
        name: beside its mark; may be empty.
        cost: less is better.
        worth: more is better, or less where the drawing says so.
        family: points of one family share colour and mark.
    """

    name: str
    cost: float
    worth: float
    family: str = ""


def best_points(points: Sequence[Point], smaller: bool = False) -> list[Point]:
    """The Pareto front, cheapest first: the points that no other beats in both respects.

    Args:
        points: all choices.
        smaller: whether less worth is better, as of a loss.
    """
    sign = -1.0 if smaller else 1.0
    return [points[i] for i in front([(point.cost, sign * point.worth) for point in points])]


def draw_trade(
    points: Sequence[Point],
    name: str,
    title: str,
    cost: str,
    worth: str,
    smaller: bool = False,
    logarithmic: bool = False,
) -> Drawing:
    """Worth against cost, the Pareto front as a dashed line; its points are named, or all of a few.

    Args:
        points: two or more choices.
        name: of the drawing's file.
        title: above it.
        cost: what the first axis measures, with its unit.
        worth: what the second one measures.
        smaller: whether less worth is better, as of a loss.
        logarithmic: whether the second axis is; its points must be above 0.
    """
    best = best_points(points, smaller)
    families = list(dict.fromkeys(point.family for point in points))
    with drawing_style():
        figure = Figure(figsize=(WIDTH, _HEIGHT), layout="constrained")
        axes = figure.subplots()
        line = "steps-post"
        axes.plot(
            [p.cost for p in best],
            [p.worth for p in best],
            ls=(0, (5, 4)),
            lw=1.2,
            color=MUTED,
            drawstyle=line,
        )
        for index, family in enumerate(families):
            own = [point for point in points if point.family == family]
            axes.plot(
                [p.cost for p in own],
                [p.worth for p in own],
                _MARKS[index % len(_MARKS)],
                ms=6,
                color=SERIES[index % len(SERIES)],
                label=family or None,
            )
        named = [point for point in points if point.name]
        for point in named if len(named) <= _NAMED else best:
            place = (point.cost, point.worth)
            axes.annotate(point.name, place, (6, 5), textcoords="offset points", fontsize=7.5, color=INK)
        if logarithmic:
            axes.set_yscale("log")
            powers_of_ten(axes.yaxis)
        axes.margins(x=0.12, y=0.08)
        axes.grid(axis="both")
        axes.tick_params(axis="y", labelcolor=MUTED)
        axes.set_xlabel(cost)
        axes.set_ylabel(worth)
        axes.set_title(title, loc="left", fontsize=11)
        if any(families):
            axes.legend(frameon=False, fontsize=8, loc="best")
        return finished(figure, name, title)


def draw_stacked(rows: Mapping[str, Mapping[str, float]], name: str, title: str, unit: str) -> Drawing:
    """One bar per row, made of the same parts.

    Args:
        rows: row to part to value, the first row on top; every row has the same parts.
        name: of the drawing's file.
        title: above it.
        unit: of the axis.
    """
    parts = list(next(iter(rows.values())))
    with drawing_style():
        figure, axes = layer_rows(tuple(rows), title)
        start = [0.0] * len(rows)
        for index, part in enumerate(parts):
            values = [row[part] for row in rows.values()]
            axes.barh(
                range(len(rows)),
                values,
                left=start,
                height=0.72,
                color=SERIES[(index + 1) % len(SERIES)],
                label=part,
            )
            start = [a + b for a, b in zip(start, values, strict=True)]
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(unit)
        figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=len(parts))
        return finished(figure, name, title)
