"""Layer by layer: QSNR and sensitivity, from a variant's profile."""

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.report.cells import DASH, Grid, decimals
from benchmarks.report.charts.spec import Chart, Spec, axis, color, decades, finite, tooltip
from benchmarks.report.charts.values import values_chart
from benchmarks.report.profiles import ProfileView
from benchmarks.report.runs import Entry

__all__ = ["layer_charts"]

_ALONE = "layer alone"
_BEHIND = "accumulated"
_HEIGHT = 260


def layer_charts(e: Entry, profile: ProfileView, name: str) -> list[Chart]:
    """All that a profile has figures for."""
    metrics = list(dict.fromkeys(row.metric for row in profile.sensitivity))
    found = [_qsnr(e, profile, f"{name}-qsnr")]
    found += [_sensitivity(e, profile, metric, f"{name}-sensitivity-{metric}") for metric in sorted(metrics)]
    layers = dict.fromkeys(b.layer for b in profile.histograms)
    found += [values_chart(e, profile, layer, f"{name}-values-{i}") for i, layer in enumerate(layers, 1)]
    return [chart for chart in found if chart is not None]


def _qsnr(e: Entry, profile: ProfileView, name: str) -> Chart | None:
    rows: list[dict[str, Any]] = []
    for i, layer in enumerate(profile.layers, 1):
        for series, value in ((_BEHIND, layer.qsnr_db), (_ALONE, layer.isolated_qsnr_db)):
            if finite(value) is not None:
                rows.append(
                    {
                        "index": i,
                        "layer": layer.name,
                        "kind": layer.kind.replace("_", " "),
                        "series": series,
                        "y": value,
                        "text": _db(value),
                        "bits": f"{_bits(layer.weight_bits)} / {_bits(layer.input_bits)}",
                    }
                )
    if not rows:
        return None
    lines = {"domain": [_BEHIND, _ALONE], "range": [color(e.color), color("--muted")]}
    tips = (
        ("layer", "Layer"),
        ("kind", "Kind"),
        ("text", "QSNR"),
        ("series", "Measured"),
        ("bits", "Weight / input bits"),
    )
    spec = _along(rows, "QSNR, dB", lines, tips, [layer.name for layer in profile.layers])
    worst = min((r for r in rows), key=lambda r: float(str(r["y"])))
    perfect = sum(not math.isfinite(layer.qsnr_db or 0.0) for layer in profile.layers)
    caption = (
        "Higher is better; 6 dB more halve the error. Accumulated: with the error of all quantized layers "
        "before; alone: fed with the float model's values."
    )
    caption += f" {perfect} layers without any error are not drawn." if perfect else ""
    grid = Grid(
        "QSNR by layer",
        ("Layer", "Kind", "QSNR", "Layer alone", "Weight bits", "Input bits"),
        tuple(
            (
                layer.name,
                layer.kind.replace("_", " "),
                _db(layer.qsnr_db),
                _db(layer.isolated_qsnr_db),
                _bits(layer.weight_bits),
                _bits(layer.input_bits),
            )
            for layer in profile.layers
        ),
    )
    alt = f"QSNR of {len(profile.layers)} layers of {e.label}; the lowest is {worst['text']}, "
    alt += f"of {worst['layer']} ({worst['series']})."
    return Chart(name, f"QSNR by layer, {e.label}", caption, alt, spec, grid, wide=True)


def _sensitivity(e: Entry, profile: ProfileView, metric: str, name: str) -> Chart | None:
    found = [row for row in profile.sensitivity if row.metric == metric]
    names = list(dict.fromkeys(row.layer for row in found))
    rows: list[dict[str, Any]] = [
        {
            "index": 1 + names.index(row.layer),
            "layer": row.layer,
            "series": f"{row.bits} bits",
            "y": row.value,
            "text": _short(row.value),
        }
        for row in found
        if math.isfinite(row.value) and row.value > 0
    ]
    if not rows:
        return None
    widths = sorted({row.bits for row in found})
    tones = [color(f"--width-{min(i, 3)}") for i in range(len(widths))]
    series = {"domain": [f"{bits} bits" for bits in widths], "range": tones}
    tips = (("layer", "Layer"), ("series", "Width"), ("text", metric))
    spec = _along(rows, metric, series, tips, names, "log")
    values = {(row.layer, row.bits): row.value for row in found}
    grid = Grid(
        f"Sensitivity, {metric}",
        ("Layer", *(f"{bits} bits" for bits in widths)),
        tuple((layer, *(_short(values.get((layer, bits))) for bits in widths)) for layer in names),
    )
    left = len(found) - len(rows)
    caption = "What each layer alone would lose at a width; lower is better, and the axis is logarithmic."
    caption += f" {left} figures of zero are not drawn." if left else ""
    first = max((r for r in found if r.bits == widths[0]), key=lambda r: r.value)
    alt = f"Sensitivity of {len(names)} layers of {e.label} by {metric}; "
    alt += f"at {widths[0]} bits {first.layer} loses most."
    return Chart(name, f"Sensitivity by layer ({metric}), {e.label}", caption, alt, spec, grid, wide=True)


def _along(
    rows: Sequence[dict[str, Any]],
    unit: str,
    series: Spec,
    tips: Sequence[tuple[str, str]],
    names: Sequence[str],
    scale: str = "linear",
) -> Spec:
    """Lines over the layers in the order of execution; the point nearest to the pointer answers."""
    x: Spec = {
        "field": "index",
        "type": "quantitative",
        "scale": {"domain": [0.5, len(names) + 0.5], "nice": False},
    }
    x["axis"] = axis("layers in the order of execution", grid=False, tickMinStep=1, tickCount=10)
    shape = {"type": "log"} if scale == "log" else {"zero": False, "nice": True}
    y: Spec = {"field": "y", "type": "quantitative", "scale": shape}
    more: dict[str, Any] = {}
    if scale == "log":
        values = [float(row["y"]) for row in rows]
        more = {"format": ".0e", "values": decades(min(values), max(values))}
    y["axis"] = axis(unit, titleAngle=0, titleAlign="left", titleAnchor="end", titleY=-10, titleX=-28, **more)
    key = {"field": "series", "type": "nominal", "scale": series, "sort": None}
    key["legend"] = {
        "direction": "horizontal",
        "columns": len(series["domain"]),
        "labelLimit": 260,
        "symbolType": "circle",
        "symbolOpacity": 1,
    }
    hover = {
        "name": "hover",
        "select": {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"},
    }
    return {
        "height": _HEIGHT,
        "data": {"values": list(rows)},
        "encoding": {"x": x, "y": y, "color": key},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.2, "opacity": 0.55}},
            {
                "params": [hover],
                "mark": {"type": "point", "filled": True, "opacity": 1},
                "encoding": {
                    "tooltip": tooltip(*tips),
                    "size": {"condition": {"param": "hover", "empty": False, "value": 150}, "value": 32},
                },
            },
        ],
    }


def _db(value: float | None) -> str:
    return DASH if value is None else f"{decimals(value)} dB"


def _bits(value: float | None) -> str:
    return DASH if value is None else f"{value:g}"


def _short(value: float | None) -> str:
    return DASH if value is None else f"{value:.3g}"
