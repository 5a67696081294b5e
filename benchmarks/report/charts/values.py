"""The values of a layer's output, before and after quantization."""

import math
from typing import Any

from benchmarks.report.cells import Grid
from benchmarks.report.charts.spec import Chart, Spec, axis, color, decades, tooltip
from benchmarks.report.profiles import ProfileView
from benchmarks.report.runs import Entry

__all__ = ["values_chart"]


def values_chart(e: Entry, profile: ProfileView, layer: str, name: str) -> Chart | None:
    """The histogram of one layer, if the profile has it."""
    bins = [b for b in profile.histograms if b.layer == layer]
    least = min((share for b in bins for share in (b.exact, b.quantized) if share > 0), default=0.0)
    if not least:
        return None
    floor = 10.0 ** math.floor(math.log10(least))
    ceiling = max(share for b in bins for share in (b.exact, b.quantized))
    rows: list[dict[str, Any]] = [
        {
            "low": b.low,
            "high": b.high,
            "exact": max(b.exact, floor),
            "quantized": max(b.quantized, floor),
            "ceiling": ceiling,
            "before": f"{100 * b.exact:.3g}%",
            "after": f"{100 * b.quantized:.3g}%",
            "range": f"{b.low:.3g} to {b.high:.3g}",
        }
        for b in bins
    ]
    x: Spec = {"field": "low", "type": "quantitative", "scale": {"zero": False, "nice": False}}
    x["axis"] = axis("value of the layer's output", grid=False)
    y: Spec = {"type": "quantitative", "scale": {"type": "log", "domainMin": floor}}
    y["axis"] = axis(
        "share",
        values=decades(floor, ceiling),
        format=".0e",
        titleAngle=0,
        titleAlign="left",
        titleAnchor="end",
        titleY=-10,
        titleX=-28,
    )
    tones = {"domain": ["FP32", "quantized"], "range": [color("--series-0"), color(e.color)]}
    legend = {"direction": "horizontal", "symbolType": "square", "symbolOpacity": 1}
    key = {"type": "nominal", "sort": None, "scale": tones, "legend": legend}
    step = {"interpolate": "step-after"}
    floor_of = {"y2": {"datum": floor}}
    spec = {
        "height": 170,
        "data": {"values": rows},
        "encoding": {"x": x},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.4, **step},
                "encoding": {"y": y | {"field": "exact"}, "color": key | {"datum": "FP32"}, **floor_of},
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.5, **step},
                "encoding": {"y": y | {"field": "quantized"}, "color": key | {"datum": "quantized"}},
            },
            {
                "mark": {"type": "bar", "opacity": 0},
                "encoding": {
                    "x2": {"field": "high"},
                    "y": y | {"field": "ceiling"},
                    "tooltip": tooltip(("range", "Values"), ("before", "FP32"), ("after", "Quantized")),
                    **floor_of,
                },
            },
        ],
    }
    grid = Grid(
        f"Values of {layer}",
        ("From", "To", "FP32", "Quantized"),
        tuple(
            (f"{b.low:.4g}", f"{b.high:.4g}", f"{100 * b.exact:.3g}%", f"{100 * b.quantized:.3g}%")
            for b in bins
        ),
    )
    alt = f"Values that {layer} of {e.label} puts out, from {bins[0].low:.3g} to {bins[-1].high:.3g}, "
    alt += "before and after quantization."
    caption = (
        "Share of the values in each bin, on a logarithmic axis; one of the layers with the lowest QSNR."
    )
    return Chart(name, f"{layer}, {e.label}", caption, alt, spec, grid)
