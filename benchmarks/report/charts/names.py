"""Names beside points, in a drawing of known width.

The page lets Vega place them, which needs a browser's canvas. A file is drawn without one, so the places are
found here: greedily, on estimated sizes of the text; a name that finds no room is left out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.report.charts.spec import Spec

__all__ = ["named_points"]

_LETTER, _LINE, _GAP, _POINT = 6.6, 14.0, 10.0, 7.0  # pixels, at 12 px text
Box = tuple[float, float, float, float]


def named_points(rows: Sequence[dict[str, Any]], x: Spec, y: Spec, width: float, height: float) -> Spec:
    """A layer of text for points with ``x``, ``y`` and ``name``.

    Args:
        rows: of the points.
        x: the channel of the first axis, which begins at zero.
        y: the channel of the second.
        width: of the plot, in pixels.
        height: of the plot, in pixels.
    """
    low, high = min(r["low"] for r in rows), max(r["high"] for r in rows)
    span, end = high - low or 1.0, max(r["x"] for r in rows) or 1.0
    places = [(width * r["x"] / end, height * (high - r["y"]) / span) for r in rows]
    taken: list[Box] = [(a - _POINT, b - _POINT, a + _POINT, b + _POINT) for a, b in places]
    named = []
    for row, place in zip(rows, places, strict=True):
        for box, more in _anchors(place, _LETTER * len(row["name"])):
            if box[0] >= 0 and box[2] <= width and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                named.append({"x": row["x"], "y": row["y"], "name": row["name"], **more})
                break
    return {
        "data": {"values": named},
        "mark": {
            "type": "text",
            "baseline": "middle",
            **{key: {"expr": f"datum.{key}"} for key in ("align", "dx", "dy")},
        },
        "encoding": {"x": x, "y": y, "text": {"field": "name"}},
    }


def _anchors(place: tuple[float, float], wide: float) -> Iterator[tuple[Box, dict[str, Any]]]:
    a, b = place
    for dy in (0.0, -_LINE, _LINE):
        top, bottom = b + dy - _LINE / 2, b + dy + _LINE / 2
        yield (a + _GAP, top, a + _GAP + wide, bottom), {"align": "left", "dx": _GAP, "dy": dy}
        yield (a - _GAP - wide, top, a - _GAP, bottom), {"align": "right", "dx": -_GAP, "dy": dy}


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
