"""A drawing as an SVG file of its own, in the report's colours, light or dark as the reader has it."""

import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.report.svg import inline_svg

__all__ = ["WIDTH", "Drawing", "finished", "layer_rows", "powers_of_ten"]

WIDTH = 6.6  # inches
_ROW = 0.17  # inches of a layer's row
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclass(frozen=True)
class Drawing:
    """An SVG document and the name of its file, without the suffix."""

    name: str
    svg: str


def finished(figure: Figure, name: str, title: str) -> Drawing:
    """The figure, drawn under :func:`benchmarks.report.svg.drawing_style`, as a document with its colours."""
    opening, rest = inline_svg(figure, name, title).split(">", 1)
    style = f"<style>{_palette()}svg {{ background: var(--surface); }}</style>"
    return Drawing(name, f'<?xml version="1.0" encoding="utf-8"?>\n{opening}>{style}{rest}\n')


def layer_rows(names: tuple[str, ...], title: str) -> tuple[Figure, Axes]:
    """Axes with one row per layer, the first on top."""
    figure = Figure(figsize=(WIDTH, 0.9 + _ROW * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.3, -0.7)
    axes.grid(axis="both")
    axes.set_title(title, loc="left", fontsize=11)
    return figure, axes


def powers_of_ten(axis: Axis) -> None:
    """Label a logarithmic axis 10⁻³, 10⁻², …; text is drawn as it is written, without a formula's markup."""
    axis.set_major_locator(LogLocator(10, numticks=6))
    axis.set_major_formatter(FuncFormatter(_power))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float, _: object) -> str:
    return "10" + str(round(math.log10(value))).translate(_SUPERSCRIPT)


@cache
def _palette() -> str:
    """The variables at the head of the report's style sheet."""
    css = (files("benchmarks.report") / "style.css").read_text(encoding="utf-8")
    return css[: css.index("* {")]
