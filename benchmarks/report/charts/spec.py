"""What all drawings share: the chart itself, its style, and rows of one variant each.

Colours are variables of the page's style sheet, which SVG in a page resolves by itself; so a drawing changes
with the page's theme without being drawn again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report.cells import Grid

__all__ = [
    "CONFIG",
    "ROW",
    "Chart",
    "Spec",
    "axis",
    "color",
    "decades",
    "finite",
    "marks",
    "row_chart",
    "tooltip",
]

Spec = dict[str, Any]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
ROW = 46  # pixels of a row: its name and value above, its marks below
_SHIFT = 8  # marks sit that far below the middle of their row

CONFIG: Spec = {
    "background": None,
    "font": FONT,
    "padding": {"left": 2, "right": 8, "top": 4, "bottom": 2},
    "view": {"stroke": None},
    "mark": {"color": "var(--series-0)"},
    "text": {"fill": "var(--ink)", "fontSize": 12},
    "axis": {
        "domain": False,
        "ticks": False,
        "gridColor": "var(--line)",
        "gridOpacity": 1,
        "labelColor": "var(--muted)",
        "labelFontSize": 11,
        "labelPadding": 6,
        "titleColor": "var(--muted)",
        "titleFontSize": 11.5,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "legend": {
        "orient": "top",
        "title": None,
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "padding": 2,
        "offset": 27,
        "symbolSize": 80,
    },
}


@dataclass(frozen=True)
class Chart:
    """A drawing with all that stands around it.

    Attributes:
        name: unique in the report; the name of its file, too.
        title: what it shows.
        caption: how to read it.
        alt: one sentence for those who cannot see it.
        spec: Vega-Lite without width, configuration and schema.
        grid: the same figures as a table.
        wide: whether it takes the whole width of the page.
        labels: name of the layer of points that get their names written beside them where there is room.
    """

    name: str
    title: str
    caption: str
    alt: str
    spec: Spec
    grid: Grid
    wide: bool = False
    labels: str | None = None


def color(variable: str) -> str:
    """A variable of the style sheet as a colour."""
    return f"var({variable})"


def finite(value: float | None) -> float | None:
    """The value, or ``None`` where a drawing has no place for it."""
    return value if value is not None and math.isfinite(value) else None


def tooltip(*fields: tuple[str, str]) -> list[Spec]:
    """What is shown under the pointer: (field, title) pairs of text."""
    return [{"field": name, "title": title, "type": "nominal"} for name, title in fields]


def axis(title: str, **more: Any) -> Spec:
    """A quantitative axis."""
    return {"title": title, "tickCount": 5, **more}


def decades(low: float, high: float) -> list[float]:
    """At most about six powers of ten that a logarithmic axis from low to high is labelled at."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, last + 1, 1 + (last - first) // 6)]


def marks(kind: str, **encoding: Any) -> Spec:
    """A layer of marks below the text of their rows; what is not an encoding goes to the mark."""
    own = {"type": kind, "yOffset": _SHIFT}
    for key in list(encoding):
        if not isinstance(encoding[key], dict | list):
            own[key] = encoding.pop(key)
    return {"mark": own, "encoding": encoding}


def row_chart(
    rows: Sequence[Mapping[str, Any]],
    layers: Sequence[Spec],
    x: Spec,
    tips: Sequence[tuple[str, str]],
) -> Spec:
    """One row per variant: name on the left and figure on the right, the marks below them.

    Args:
        rows: each with ``id``, ``name``, ``text``, ``color`` (a variable's name), ``shape`` and the fields of
            the layers.
        layers: of marks; their colour is that of the row, if they do not say otherwise.
        x: the quantitative channel, shared by the layers.
        tips: (field, title) pairs shown under the pointer.
    """
    values = [dict(row) | {"color": color(row["color"])} for row in rows]
    own = {"field": "color", "type": "nominal", "scale": None, "legend": None}
    left: Spec = {"x": {"value": 0}, "text": {"field": "name"}}
    right: Spec = {"x": {"value": "width"}, "text": {"field": "text"}}
    words = [*_above(left, align="left"), *_above(right, align="right", fontWeight=600)]
    drawn = [
        layer
        | {
            "encoding": {"color": own, "tooltip": tooltip(("name", "Variant"), *tips)}
            | {"x": x | layer["encoding"].pop("x", {})}
            | layer["encoding"]
        }
        for layer in ({**layer, "encoding": dict(layer["encoding"])} for layer in layers)
    ]
    return {
        "data": {"values": values},
        "height": ROW * len(values),
        "encoding": {"y": {"field": "id", "type": "nominal", "sort": None, "axis": None}},
        "layer": [*drawn, *words],
    }


def _above(encoding: Spec, **style: Any) -> list[Spec]:
    """Text above the marks of a row, on a ground of its own where a line of the grid passes."""
    mark = {"type": "text", "baseline": "bottom", "dy": -5, **style}
    ground = mark | {"stroke": "var(--surface)", "strokeWidth": 5, "strokeJoin": "round", "fillOpacity": 0}
    return [{"mark": ground, "encoding": encoding}, {"mark": mark, "encoding": encoding}]
