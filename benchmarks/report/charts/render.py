"""Drawings as Vega for the page, and as PNG files.

Vega-Lite is compiled here, which spares the page that work. The package ``vl-convert-python`` has all of it.
"""

import json
from functools import cache

from benchmarks.report.charts.names import named_points
from benchmarks.report.charts.spec import CONFIG, FONT, Chart, Spec
from benchmarks.report.palette import concrete, palette

__all__ = ["VEGA_LITE", "png", "runtime", "vega"]

VEGA_LITE = "6.4"
# Vega-Embed draws, for a bundle of Vega alone leaves its namespace empty (vl-convert 1.9).
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_PNG_WIDTH, _PNG_AXIS, _PNG_SCALE = 640, 48, 2


@cache
def runtime() -> str:
    """The JavaScript that draws, as ``window.vegaEmbed``; safe inside ``<script>``."""
    import vl_convert  # large; only what draws needs it

    return vl_convert.javascript_bundle(_SNIPPET, vl_version=VEGA_LITE).replace("</script", r"<\/script")


def vega(chart: Chart) -> Spec:
    """The drawing as a Vega specification that is as wide as the element it is drawn into."""
    found = _compiled(chart.spec, "container")
    if chart.labels is not None:
        found["marks"].append(_names(chart.labels))
    return found


def png(chart: Chart) -> bytes:
    """The drawing in the light colours, on its own ground, 2 pixels per unit."""
    import vl_convert

    spec = chart.spec
    if chart.labels is not None:
        points = next(layer for layer in spec["layer"] if layer.get("name") == chart.labels)
        own = points["encoding"]
        width, rows = _PNG_WIDTH - _PNG_AXIS, spec["data"]["values"]
        spec = spec | {
            "layer": [*spec["layer"], named_points(rows, own["x"], own["y"], width, spec["height"])]
        }
    title = {"text": chart.title, "anchor": "start", "frame": "bounds", "fontSize": 15, "offset": 16}
    whole = _compiled(spec | {"title": title | {"color": "var(--ink)", "font": FONT}}, _PNG_WIDTH)
    drawing = json.loads(concrete(json.dumps(whole)))
    drawing |= {"background": palette("light")["--surface"], "padding": 16}
    drawn: bytes = vl_convert.vega_to_png(drawing, scale=_PNG_SCALE)
    return drawn


def _compiled(spec: Spec, width: int | str) -> Spec:
    import vl_convert

    whole: Spec = {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{VEGA_LITE.split('.')[0]}.json",
        "width": width,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": CONFIG,
        **spec,
    }
    compiled = vl_convert.vegalite_to_vega(whole, vl_version=VEGA_LITE)
    found: Spec = json.loads(compiled) if isinstance(compiled, str) else dict(compiled)
    found.pop("$schema", None)
    for mark in found["marks"]:
        if mark["name"].endswith("_voronoi"):
            # The cell of a nearest point holds its mark, whose datum is the row; Vega-Lite forgets that.
            told = mark["encode"]["update"]["tooltip"]
            told["signal"] = told["signal"].replace("datum[", "datum.datum[")
    return found


def _names(layer: str) -> Spec:
    """The points' names, each where it hides nothing; one that finds no room is left out."""
    return {
        "type": "text",
        "from": {"data": f"{layer}_marks"},
        "interactive": False,
        "encode": {
            "enter": {
                "text": {"field": "datum.name"},
                "fill": {"value": "var(--ink)"},
                "fontSize": {"value": 12},
                "font": {"value": FONT},
                "stroke": {"value": "var(--surface)"},
                "strokeWidth": {"value": 4},
            }
        },
        "transform": [
            {
                "type": "label",
                "size": {"signal": "[width, height]"},
                "anchor": [
                    "right",
                    "left",
                    "top",
                    "bottom",
                    "top-right",
                    "bottom-right",
                    "top-left",
                    "bottom-left",
                ],
                "offset": [10],
                "avoidMarks": [f"{layer}_marks"],
            }
        ],
    }
