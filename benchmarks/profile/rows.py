"""A profile as flat rows, for a table file and for figures across layers."""

import math
from collections.abc import Mapping

from benchmarks.profile.measure import LayerSensitivity
from quant.profile import BlockProfile, Comparison, LayerProfile, Profile

__all__ = [
    "COLUMNS",
    "HISTOGRAMS",
    "HISTOGRAM_BINS",
    "HISTOGRAM_COLUMNS",
    "METRICS",
    "Cell",
    "histogram_rows",
    "rows",
    "sensitivity_rows",
]

Cell = str | int | float | None

COLUMNS: Mapping[str, str] = {
    "name": "the layer or block",
    "kind": "linear, conv, patch_conv, attention_qk, attention_pv, or block",
    "qsnr_db": "QSNR of its output behind the quantized prefix (accumulated error), dB",
    "mse": "mean squared error of that output",
    "cosine": "cosine similarity of that output",
    "kl": "KL divergence of that output's values from the float ones, nats",
    "float_outlier_ratio": "share of the float values beyond 3 standard deviations",
    "quantized_outlier_ratio": "share of the quantized values beyond 3 standard deviations",
    "isolated_qsnr_db": "QSNR of the layer alone, fed with the float graph's input, dB",
    "weight_share": "share of the layer's own noise that its weight makes",
    "mean_shift": "share of the layer's own noise that is a constant shift of its channels",
    "weight_bits": "width of the weight's codes",
    "weight_sqnr_db": "SQNR of the quantized weight, dB",
    "input_source": "what computes the input",
    "input_bits": "width of the input's codes",
    "channel_ratio": "peak of the largest input channel over the median channel's",
    "range_sigmas": "width of the input's range in standard deviations",
    "clipped": "share of the input values that its quantizer clips",
    "clipping_share": "their share of the input's noise",
}
"""Column to its meaning. A cell is empty where a figure does not apply; ``inf`` dB is no error at all."""

HISTOGRAM_COLUMNS: Mapping[str, str] = {
    "layer": "one of the layers with the lowest QSNR of their own",
    "low": "where the bin begins",
    "high": "where it ends",
    "float": "share of the float output's values in the bin",
    "quantized": "share of the quantized output's values in the bin",
}
"""Column to its meaning."""

HISTOGRAMS = 6
"""How many layers have one."""

HISTOGRAM_BINS = 120
"""At most that many bins."""

METRICS = (
    *("qsnr_db", "mse", "cosine", "kl", "float_outlier_ratio", "quantized_outlier_ratio"),
    *("isolated_qsnr_db", "weight_share", "mean_shift", "weight_sqnr_db", "channel_ratio", "range_sigmas"),
)
"""The columns that are compared with each other."""


def rows(profile: Profile) -> list[dict[str, Cell]]:
    """One row per layer in the order of execution, then one per block; the keys are :data:`COLUMNS`."""
    found = [*map(_layer, profile.layers), *map(_block, profile.blocks)]
    return [{column: row.get(column) for column in COLUMNS} for row in found]


def histogram_rows(profile: Profile) -> list[dict[str, Cell]]:
    """The values of the worst layers' outputs: one row per layer and bin; the keys are the columns."""
    found: list[dict[str, Cell]] = []
    for layer in profile.worst(HISTOGRAMS):
        edges, exact, quantized = layer.output.histogram.trimmed(HISTOGRAM_BINS)
        shares = zip(edges, edges[1:], exact / exact.sum(), quantized / quantized.sum(), strict=False)
        for low, high, a, b in shares:
            cells = {"low": float(low), "high": float(high), "float": float(a), "quantized": float(b)}
            found.append({"layer": layer.name, **cells})
    return found


def sensitivity_rows(found: LayerSensitivity) -> list[dict[str, Cell]]:
    """One row per layer and width, layers in the order of execution, with a column per metric."""
    found_rows: list[dict[str, Cell]] = []
    for i, layer in enumerate(found.first.groups):
        for j, bits in enumerate(found.first.bits):
            values = {metric: table.values[i][j] for metric, table in found.tables.items()}
            found_rows.append({"layer": layer, "bits": bits, **values})
    return found_rows


def _layer(layer: LayerProfile) -> dict[str, Cell]:
    row = {"name": layer.name, "kind": layer.kind} | _output(layer.output)
    row |= {
        "isolated_qsnr_db": layer.isolated.qsnr_db,
        "weight_share": layer.isolated.weight_share if math.isfinite(layer.isolated.qsnr_db) else None,
        "mean_shift": layer.isolated.mean_shift if math.isfinite(layer.isolated.qsnr_db) else None,
    }
    if layer.weight is not None:
        row |= {"weight_bits": layer.weight.bits, "weight_sqnr_db": layer.weight.sqnr_db}
    if layer.input is not None:
        source = layer.input
        row |= {
            "input_source": source.source,
            "input_bits": source.bits,
            "channel_ratio": source.channel_ratio,
            "range_sigmas": source.range_sigmas,
        }
        if source.bits is not None:
            row |= {"clipped": source.clipped, "clipping_share": source.clipping_share}
    return row


def _block(block: BlockProfile) -> dict[str, Cell]:
    return {"name": block.name, "kind": "block"} | _output(block.output)


def _output(output: Comparison) -> dict[str, Cell]:
    return {
        "qsnr_db": output.qsnr_db,
        "mse": output.mse,
        "cosine": output.cosine,
        "kl": output.kl,
        "float_outlier_ratio": output.float_outliers,
        "quantized_outlier_ratio": output.quantized_outliers,
    }
