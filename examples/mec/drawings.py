"""Drawings of a study: queues, rates, energy and the per-slot value over time, and the cost of training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.profile.drawing import WIDTH, Drawing, finished, powers_of_ten
from benchmarks.report.svg import MUTED, SERIES, drawing_style
from examples.mec.study import Curves
from examples.mec.system import Floats, MecSystem

__all__ = ["Series", "draw_cost", "draw_curves"]

_HEIGHT = 3.6  # inches
_POINTS = 250  # per line; more would only make the file larger


@dataclass(frozen=True)
class Series:
    """What is drawn of one policy.

    Attributes:
        name: in the legend.
        curves: its means over traces.
        control: drawn thin and dashed, since it is no contender.
    """

    name: str
    curves: Curves
    control: bool = False


def draw_curves(system: MecSystem, lines: Sequence[Series]) -> list[Drawing]:
    """Backlog, rate, energy and objective over time."""
    frames = len(lines[0].curves.backlog)
    window = max(frames // 25, 1)

    def smooth(values: Floats) -> Floats:
        return _moving_mean(values, window)

    def so_far(values: Floats) -> Floats:
        return np.asarray(np.cumsum(values) / np.arange(1, len(values) + 1))

    def rate(axes: Axes) -> None:
        arrivals = so_far(lines[0].curves.arrivals)
        axes.plot(*_thinned(arrivals), color=MUTED, lw=1, ls=":", label="arrivals")

    def energy(axes: Axes) -> None:
        axes.axhline(system.energy_limit, color=MUTED, lw=1, ls=":", label="limit")

    def backlog(axes: Axes) -> None:
        axes.set_yscale("log")
        powers_of_ten(axes.yaxis)

    mean = f"mean of {window} slots"
    return [
        _draw("queue", "Backlog", f"Mb per user, {mean}", lines, lambda c: smooth(c.backlog), backlog),
        _draw("rate", "Data served so far", "Mbps of all users", lines, lambda c: so_far(c.rate), rate),
        _draw(
            "energy", "Energy spent so far", "J per user and slot", lines, lambda c: so_far(c.energy), energy
        ),
        _draw("objective", "The critic's value", f"Mb², {mean}", lines, lambda c: smooth(c.objective)),
    ]


def draw_cost(losses: Sequence[float], every: int) -> Drawing:
    """The training loss: what the actor's imitation of the critic costs, slot by slot.

    Args:
        losses: of each step, nats per user.
        every: slots between steps.
    """
    values = _moving_mean(np.asarray(losses), min(20, len(losses)))
    with drawing_style():
        figure = Figure(figsize=(WIDTH, _HEIGHT), layout="constrained")
        axes = figure.subplots()
        axes.plot(every * np.arange(len(losses)), losses, lw=0.5, color=MUTED, label="each step")
        axes.plot(every * np.arange(len(losses)), values, lw=1.5, color=SERIES[1], label="mean of 20 steps")
        axes.set_yscale("log")
        powers_of_ten(axes.yaxis)
        return _finish(
            figure, axes, "cost", "Cost of imitation while learning", "cross-entropy, nats per user"
        )


def _draw(
    name: str,
    title: str,
    unit: str,
    lines: Sequence[Series],
    values: Callable[[Curves], Floats],
    more: Callable[[Axes], None] | None = None,
) -> Drawing:
    with drawing_style():
        figure = Figure(figsize=(WIDTH, _HEIGHT), layout="constrained")
        axes = figure.subplots()
        colors: Mapping[bool, list[str]] = {False: list(SERIES), True: [MUTED, SERIES[-1]]}
        used = {False: 0, True: 0}
        for line in lines:
            color = colors[line.control][used[line.control] % len(colors[line.control])]
            used[line.control] += 1
            style = (0, (4, 3)) if line.control else "-"
            axes.plot(*_thinned(values(line.curves)), color=color, ls=style, lw=1.2, label=line.name)
        if more is not None:
            more(axes)
        return _finish(figure, axes, name, title, unit)


def _finish(figure: Figure, axes: Axes, name: str, title: str, unit: str) -> Drawing:
    axes.grid(axis="both")
    axes.tick_params(axis="y", labelcolor=MUTED)
    axes.set_xlabel("slot")
    axes.set_ylabel(unit)
    axes.set_title(title, loc="left", fontsize=11)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    return finished(figure, name, title)


def _thinned(values: Floats) -> tuple[Floats, Floats]:
    rows = np.unique(np.linspace(0, len(values) - 1, _POINTS).astype(int))
    return rows.astype(np.float64), values[rows]


def _moving_mean(values: Floats, window: int) -> Floats:
    """Mean of each value and up to ``window`` − 1 before it."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    return np.asarray((total[end] - total[start]) / (end - start))
