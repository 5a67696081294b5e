"""Drawings of a model's sensitivity and of what precision costs."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from benchmarks.profile.drawing import WIDTH, Drawing, finished, layer_rows, powers_of_ten
from benchmarks.profile.measure import LayerSensitivity
from benchmarks.report.svg import INK, MUTED, SERIES, drawing_style

__all__ = ["draw_measured", "draw_pareto", "draw_sensitivity"]

_MEANINGS: Mapping[str, str] = {
    "fisher": "Fisher information × squared output error: estimated KL divergence, nats",
    "hessian": "mean Hessian trace × squared weight error, nats",
    "kl": "KL divergence of the class probabilities, nats",
    "sqnr": "noise over signal of the logits",
    "output_l2": "distance of the logits",
    "output_l2_squared": "squared distance of the logits",
    "nuclear_norm": "nuclear norm × squared output error",
}
"""Metric to what its axis shows; see :mod:`quant.mixed.sensitivity`."""


def draw_measured(found: LayerSensitivity) -> list[Drawing]:
    """One drawing of the layers for each metric that found any loss, and the front of the first metric."""
    drawn = []
    for metric, table in found.tables.items():
        rows = zip(table.groups, table.values, strict=True)
        values = {name: dict(zip(table.bits, row, strict=True)) for name, row in rows}
        if any(value > 0 for row in table.values for value in row):
            drawn.append(draw_sensitivity(values, metric, f"sensitivity_{metric}"))
    uniform = {f"uniform {bits}": place for bits, place in found.uniform.items()}
    front = [(point.cost, point.loss) for point in found.front]
    cost = "mean bits, each layer by its number of weights"
    drawn.append(draw_pareto(front, uniform, cost, f"sum of the layers' {found.first.metric}"))
    return drawn


def draw_sensitivity(
    values: Mapping[str, Mapping[int, float]], metric: str, name: str = "sensitivity"
) -> Drawing:
    """One row of bars per layer, one bar per bit-width, on a logarithmic axis.

    Args:
        values: layer to bit-width to sensitivity; what is not positive is left out.
        metric: its name, or what it measures, with its unit, for the axis.
        name: of the drawing.
    """
    widths = sorted({bits for layer in values.values() for bits in layer})
    title = f"Sensitivity of each layer: {metric.replace('_', ' ')}"
    meaning = _MEANINGS.get(metric, metric)
    if any(value <= 0 for layer in values.values() for value in layer.values()):
        meaning += "\n(estimates that are not above 0 are left out)"
    with drawing_style():
        figure, axes = layer_rows(tuple(values), title)
        figure.set_figheight(figure.get_figheight() + 0.5)  # for the legend and the second line of the axis
        height = 0.8 / max(1, len(widths))
        for i, bits in enumerate(widths):
            points = [(y, layer.get(bits, 0.0)) for y, layer in enumerate(values.values())]
            axes.barh(
                [y - 0.4 + (i + 0.5) * height for y, value in points if value > 0],
                [value for _, value in points if value > 0],
                height=height,
                color=SERIES[(i + 1) % len(SERIES)],
                label=f"{bits} bits",
            )
        axes.set_xscale("log")
        powers_of_ten(axes.xaxis)
        axes.set_xlabel(meaning, fontsize=9)
        figure.legend(frameon=False, fontsize=9, loc="outside upper right", ncols=len(widths))
        return finished(figure, name, title)


def draw_pareto(
    front: Sequence[tuple[float, float]],
    others: Mapping[str, tuple[float, float]],
    cost: str,
    loss: str,
) -> Drawing:
    """The best loss for each cost, and named choices beside it.

    Args:
        front: (cost, loss) of choices that no other beats.
        others: (cost, loss) by name, such as ``uniform 8``.
        cost: what the first axis measures, with its unit.
        loss: what the second one measures.
    """
    title = "Loss against cost"
    with drawing_style():
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        axes = figure.subplots()
        ordered = sorted(front)
        axes.plot([c for c, _ in ordered], [e for _, e in ordered], "o-", ms=5, lw=1.2, color=SERIES[1])
        for name, (c, e) in others.items():
            axes.plot([c], [e], "D", ms=6, color=SERIES[2])
            axes.annotate(name, (c, e), (6, 4), textcoords="offset points", fontsize=9, color=INK)
        axes.grid(axis="both")
        axes.tick_params(axis="y", labelcolor=MUTED)
        axes.set_xlabel(cost)
        axes.set_ylabel(loss)
        axes.set_title(title, loc="left", fontsize=11)
        return finished(figure, "pareto", title)
