"""The drawings of the page, each left out when nothing was measured for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.accuracy import Accuracy
from benchmarks.latency import Latency
from benchmarks.report.cells import decimals, label, percent
from benchmarks.report.comparison import configurations, entry, ordered
from benchmarks.report.svg import INK, MUTED, SERIES, SURFACE, drawing_style, inline_svg
from benchmarks.results import Summary, Variant

__all__ = ["Plot", "plots"]

_WIDTH = 4.6  # inches; about the width of a phone at 72 units per inch, so text stays readable there
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Plot:
    """A drawing with its title, a sentence on how to read it, and an ``<svg>`` element."""

    title: str
    caption: str
    svg: str


def plots(summary: Summary) -> tuple[Plot, ...]:
    """All drawings there are figures for; each variant keeps its colour through all of them."""
    variants = ordered(summary)
    colors = {v.name: SERIES[i % len(SERIES)] for i, v in enumerate(variants)}
    with drawing_style():
        drawn = [_accuracy(variants, colors)]
        drawn += [_latency(variants, colors, c) for c in configurations(summary)]
        drawn += [_cost(variants, colors), _trade(variants, colors, configurations(summary))]
    return tuple(plot for plot in drawn if plot is not None)


def _accuracy(variants: Sequence[Variant], colors: dict[str, str]) -> Plot | None:
    judged = [(v, v.accuracy) for v in variants if v.accuracy is not None]
    if not judged:
        return None
    figure, axes = _rows([label(v.name) for v, _ in judged])
    for y, (variant, a) in enumerate(judged):
        axes.plot([100 * a.ci95.low, 100 * a.ci95.high], [y, y], color=colors[variant.name], lw=7, alpha=0.3)
        _dot(axes, 100 * a.top1, y, colors[variant.name])
        axes.annotate(percent(a.top1), (100 * a.top1, y), (0, 8), textcoords="offset points", ha="center")
    axes.set_xlabel("top-1 accuracy, %")
    axes.margins(x=0.12)
    n = judged[0][1].n
    caption = f"The dot is the share of {n} images classified rightly, the bar its 95% Wilson interval."
    return Plot("Accuracy", caption, inline_svg(figure, "accuracy", "Top-1 accuracy of each variant"))


def _latency(
    variants: Sequence[Variant], colors: dict[str, str], configuration: tuple[int, int]
) -> Plot | None:
    timed = [(v, e) for v in variants if (e := entry(v, configuration)) is not None]
    batch, threads = configuration
    figure, axes = _rows([label(v.name) for v, _ in timed])
    fastest, slowest = min(min(e.samples_ms) for _, e in timed), max(e.p99_ms for _, e in timed)
    room = 0.12 * (slowest - fastest) or 0.1 * slowest
    end = slowest + room
    for y, (variant, e) in enumerate(timed):
        samples = np.asarray(e.samples_ms)
        # Spread evenly without a random number: fractional parts of multiples of the golden ratio.
        offsets = ((np.arange(samples.size) * _GOLDEN) % 1 - 0.5) * 0.44
        axes.scatter(samples, y + offsets, s=10, color=colors[variant.name], alpha=0.4, linewidths=0)
        axes.plot([e.median_ms] * 2, [y - 0.3, y + 0.3], color=INK, lw=1.6)
        axes.annotate(
            f"{decimals(e.median_ms)} ms",
            (e.median_ms, y - 0.3),
            (0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
        )
    axes.set_xlim(max(0.0, fastest - room), end)
    axes.set_xlabel("latency of one call, ms")
    beyond = sum(s > end for _, e in timed for s in e.samples_ms)
    calls = len(timed[0][1].samples_ms)
    caption = f"{calls} steady calls per variant, taken in turn; the line is the median. "
    caption += "The axis does not start at zero."
    caption += f" {beyond} slower calls lie outside the drawing." if beyond > 1 else ""
    caption += " One slower call lies outside the drawing." if beyond == 1 else ""
    title = f"Latency, batch {batch}, {threads} thread{'s' * (threads > 1)}"
    return Plot(title, caption, inline_svg(figure, f"latency-{batch}-{threads}", title))


def _cost(variants: Sequence[Variant], colors: dict[str, str]) -> Plot:
    measured = [v.memory for v in variants]
    panels = 2 if any(measured) else 1
    figure = Figure(figsize=(_WIDTH, 0.75 + 0.45 * len(variants)), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    files, names = axes[0], [label(v.name) for v in variants]
    for y, variant in enumerate(variants):
        _bar(files, y, variant.size_bytes / 2**20, colors[variant.name])
        if panels == 2 and variant.memory is not None:
            _bar(axes[1], y, variant.memory.peak_mib, colors[variant.name])
            axes[1].barh(y, variant.memory.imported_mib, height=0.5, color=SURFACE, alpha=0.45)
    files.set_yticks(range(len(variants)), names)
    files.set_ylim(len(variants) - 0.5, -0.5)
    for panel, text in zip(axes, ("file, MiB", "peak memory, MiB"), strict=False):
        panel.set_xlabel(text)
        panel.set_xlim(0, 1.28 * panel.get_xlim()[1])
        panel.grid(visible=False)
        panel.xaxis.set_ticks([])
        panel.spines["bottom"].set_visible(False)
    caption = "What is shipped and what is resident."
    if panels == 2:
        caption += " The pale part of a memory bar is the runtime itself, before the model is loaded."
    return Plot("Size and memory", caption, inline_svg(figure, "cost", "File size and peak memory"))


def _trade(
    variants: Sequence[Variant], colors: dict[str, str], timed: Sequence[tuple[int, int]]
) -> Plot | None:
    points: list[tuple[Variant, Accuracy, Latency]] = []
    for v in variants:
        e = entry(v, timed[0]) if timed else None
        if v.accuracy is not None and e is not None:
            points.append((v, v.accuracy, e))
    if len(points) < 2:
        return None
    figure = Figure(figsize=(_WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    for variant, a, e in points:
        x, y, color = e.median_ms, 100 * a.top1, colors[variant.name]
        axes.plot([x, x], [100 * a.ci95.low, 100 * a.ci95.high], color=color, lw=7, alpha=0.3)
        _dot(axes, x, y, color)
        left = x > 0.6 * max(p.median_ms for *_, p in points)
        axes.annotate(
            label(variant.name),
            (x, y),
            (-9 if left else 9, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
        )
    axes.grid(axis="both")
    axes.set_xlim(0, 1.12 * max(e.median_ms for *_, e in points))
    axes.set_xlabel(f"median latency at batch {timed[0][0]}, ms")
    axes.set_ylabel("top-1 accuracy, %")
    axes.tick_params(axis="y", labelcolor=MUTED)
    return Plot(
        "Accuracy against latency",
        "Up is more accurate, left is faster; the bars are 95% intervals.",
        inline_svg(figure, "trade", "Accuracy against latency of each variant"),
    )


def _rows(names: Sequence[str]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, 0.75 + 0.62 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.75)
    return figure, axes


def _dot(axes: Axes, x: float, y: float, color: str) -> None:
    axes.plot([x], [y], "o", ms=8, color=color, markeredgecolor=SURFACE, markeredgewidth=1.2)


def _bar(axes: Axes, y: float, value: float, color: str) -> None:
    axes.barh(y, value, height=0.5, color=color)
    axes.annotate(decimals(value), (value, y), (4, 0), textcoords="offset points", va="center")
