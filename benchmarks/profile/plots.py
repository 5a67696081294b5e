"""The drawings of a profile, each left out where there is nothing to draw."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.profile.correlation import correlation_map
from benchmarks.profile.drawing import WIDTH, Drawing, finished, layer_rows, powers_of_ten
from benchmarks.profile.rows import HISTOGRAM_BINS, HISTOGRAMS
from benchmarks.report.svg import INK, MUTED, SERIES, drawing_style
from quant.profile import OUTLIER_SIGMAS, LayerProfile, Profile

__all__ = ["draw"]

_FLOAT, _QUANTIZED = SERIES[0], SERIES[1]
_ACCUMULATED, _ISOLATED = SERIES[1], SERIES[2]


def draw(profile: Profile) -> list[Drawing]:
    """All drawings of a profile."""
    with drawing_style():
        drawn = [
            _qsnr_distribution(profile),
            _qsnr_layers(profile),
            _mse_layers(profile),
            _cosine_layers(profile),
            _weights(profile),
            _blocks(profile),
            _outliers(profile),
            correlation_map(profile),
            _histograms(profile),
        ]
    return [drawing for drawing in drawn if drawing is not None]


def _qsnr_distribution(profile: Profile) -> Drawing | None:
    accumulated = _finite(layer.output.qsnr_db for layer in profile.layers)
    isolated = _finite(layer.isolated.qsnr_db for layer in profile.layers)
    if not accumulated:
        return None
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    both = accumulated + isolated
    edges = np.linspace(math.floor(min(both)), math.ceil(max(both)) + 1e-9, 25).tolist()
    axes.hist(accumulated, edges, color=_ACCUMULATED, alpha=0.55, label="accumulated")
    axes.hist(isolated, edges, color=_ISOLATED, alpha=0.55, label="layer alone")
    axes.set_title("QSNR over layers", loc="left", fontsize=11)
    axes.set_xlabel("QSNR, dB")
    axes.set_ylabel("layers")
    axes.legend(frameon=False)
    return finished(figure, "qsnr_distribution", "Distribution of the layers' QSNR")


def _qsnr_layers(profile: Profile) -> Drawing | None:
    series = {
        "accumulated": (_ACCUMULATED, [layer.output.qsnr_db for layer in profile.layers]),
        "layer alone": (_ISOLATED, [layer.isolated.qsnr_db for layer in profile.layers]),
    }
    return _per_layer(profile, "qsnr_layers", "QSNR of each layer's output", "QSNR, dB", series)


def _mse_layers(profile: Profile) -> Drawing | None:
    values = [layer.output.mse or math.nan for layer in profile.layers]  # zero has no logarithm
    series = {"accumulated": (_ACCUMULATED, values)}
    return _per_layer(profile, "mse_layers", "Mean squared error of each layer's output", "MSE", series, True)


def _cosine_layers(profile: Profile) -> Drawing | None:
    series = {"accumulated": (_ACCUMULATED, [layer.output.cosine for layer in profile.layers])}
    return _per_layer(
        profile, "cosine_layers", "Cosine similarity of each layer's output", "cosine similarity", series
    )


def _weights(profile: Profile) -> Drawing | None:
    values = [layer.weight.sqnr_db if layer.weight else math.nan for layer in profile.layers]
    series = {"weight": (SERIES[3], values)}
    return _per_layer(profile, "weight_sqnr", "SQNR of each layer's weight", "SQNR, dB", series)


def _per_layer(
    profile: Profile,
    name: str,
    title: str,
    unit: str,
    series: dict[str, tuple[str, list[float]]],
    logarithmic: bool = False,
) -> Drawing | None:
    if not any(_finite(values) for _, values in series.values()):
        return None
    figure, axes = layer_rows(tuple(layer.name for layer in profile.layers), title)
    for label, (color, values) in series.items():
        points = [(v, y) for y, v in enumerate(values) if math.isfinite(v)]
        axes.plot(
            [v for v, _ in points], [y for _, y in points], "o-", ms=4, lw=0.8, color=color, label=label
        )
    if logarithmic:
        axes.set_xscale("log")
        powers_of_ten(axes.xaxis)
    axes.set_xlabel(unit)
    if len(series) > 1:  # beside the points, which fill the axes
        figure.legend(frameon=False, fontsize=9, loc="outside upper right", ncols=len(series))
    return finished(figure, name, title)


def _blocks(profile: Profile) -> Drawing | None:
    points = [(b.name, b.output.qsnr_db) for b in profile.blocks if math.isfinite(b.output.qsnr_db)]
    if not points:
        return None
    title = "QSNR of each block's output"
    figure, axes = layer_rows(tuple(name for name, _ in points), title)
    axes.barh(range(len(points)), [value for _, value in points], height=0.6, color=_ACCUMULATED)
    axes.set_xlabel("QSNR, dB")
    return finished(figure, "block_qsnr", title)


def _outliers(profile: Profile) -> Drawing | None:
    line = profile.outlier_line
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    x = [100 * layer.output.float_outliers for layer in profile.layers]
    y = [100 * layer.output.quantized_outliers for layer in profile.layers]
    end = max(*x, *y) * 1.08
    if end == 0:
        return None
    axes.plot([0, end], [0, end], color=MUTED, lw=0.8, ls="--", label="unchanged")
    axes.scatter(x, y, s=18, color=_QUANTIZED, alpha=0.7, linewidths=0)
    if math.isfinite(line.slope):
        label = f"slope {line.slope:.3f}, R² {line.r2:.3f}"
        ends = np.array([0.0, end])
        axes.plot(ends, 100 * line.intercept + line.slope * ends, color=_ISOLATED, lw=1.4, label=label)
    axes.grid(axis="both")
    axes.set_title(f"Values beyond {OUTLIER_SIGMAS:g} standard deviations", loc="left", fontsize=11)
    axes.set_xlabel("FP32, % of a layer's output")
    axes.set_ylabel("quantized, %")
    axes.legend(frameon=False)
    return finished(figure, "outlier_ratio", "Outlier ratio, FP32 against quantized")


def _histograms(profile: Profile) -> Drawing | None:
    worst: Sequence[LayerProfile] = profile.worst(HISTOGRAMS)
    if not worst:
        return None
    across = min(2, len(worst))
    down = -(-len(worst) // across)
    figure = Figure(figsize=(WIDTH, 0.5 + 1.9 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, layer in zip(panels, worst, strict=False):
        edges, exact, quantized = layer.output.histogram.trimmed(HISTOGRAM_BINS)
        axes.stairs(exact / exact.sum(), edges, color=_FLOAT, lw=1.4, label="FP32")
        axes.stairs(quantized / quantized.sum(), edges, color=_QUANTIZED, lw=1.0, label="quantized")
        axes.set_yscale("log")
        powers_of_ten(axes.yaxis)
        axes.set_title(layer.name, loc="left", fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in panels[len(worst) :]:
        axes.set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("value of the layer's output", fontsize=9, color=INK)
    figure.supylabel("share of the values", fontsize=9, color=INK)
    return finished(figure, "histograms", "Values of the worst layers' outputs, FP32 and quantized")


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
