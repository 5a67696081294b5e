"""How the figures of a profile go together over its layers."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from benchmarks.profile.drawing import WIDTH, Drawing, finished
from benchmarks.profile.rows import METRICS, rows
from benchmarks.report.svg import SERIES
from quant.profile import Profile

__all__ = ["correlation_map", "rank_correlations"]

_POSITIVE, _NEGATIVE = SERIES[1], SERIES[2]
_FEWEST = 3  # two layers always correlate perfectly


def rank_correlations(profile: Profile) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Spearman's rank correlation of each pair of metrics, over the layers that have both.

    Ranks, because the metrics are on scales as different as dB and MSE. It is Pearson's correlation of the
    ranks, where equal values share the mean of their ranks.

    Returns:
        Names, and coefficients [m, m]; a metric that is equal in all layers is left out, and a pair that
        fewer than three layers have is NaN.
    """
    layers = rows(profile)[: len(profile.layers)]
    columns = {
        metric: np.array([np.nan if row[metric] is None else float(row[metric]) for row in layers])  # type: ignore[arg-type]
        for metric in METRICS
    }
    kept = {
        name: values for name, values in columns.items() if np.unique(values[np.isfinite(values)]).size > 1
    }
    names = tuple(kept)
    found = np.full((len(names), len(names)), np.nan)
    for i, first in enumerate(kept.values()):
        for j, second in enumerate(kept.values()):
            both = np.isfinite(first) & np.isfinite(second)
            a, b = _ranks(first[both]), _ranks(second[both])
            if both.sum() >= _FEWEST and a.std() > 0 and b.std() > 0:
                found[i, j] = np.corrcoef(a, b)[0, 1]
    return names, found


def correlation_map(profile: Profile) -> Drawing | None:
    """The coefficients as a map; None where there are too few layers."""
    names, values = rank_correlations(profile)
    if len(names) < 2 or not np.isfinite(values).any():
        return None
    figure = Figure(figsize=(WIDTH, 0.8 * WIDTH), layout="constrained")
    axes = figure.subplots()
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = _POSITIVE if value > 0 else _NEGATIVE
            axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, color=color, alpha=0.75 * abs(value)))
            axes.annotate(f"{value:.2f}", (j, i), ha="center", va="center", fontsize=7)
    labels = [name.replace("_", " ").replace(" db", "") for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.set_title("Rank correlation of the figures over layers", loc="left", fontsize=11)
    return finished(figure, "correlation", "Rank correlation of the figures over layers")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return ranks
