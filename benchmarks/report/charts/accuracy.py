"""Top-1 accuracy of every variant with its interval."""

from collections.abc import Sequence
from typing import Any

from benchmarks.report.cells import Grid, percent
from benchmarks.report.charts.spec import Chart, axis, marks, row_chart
from benchmarks.report.runs import Entry

__all__ = ["accuracy_chart"]


def accuracy_chart(found: Sequence[Entry], name: str, suffix: str = "") -> Chart | None:
    """One row per variant that was judged.

    Args:
        found: variants judged on the same images.
        name: of the chart.
        suffix: what tells the title from those of other charts of the kind.
    """
    rows: list[dict[str, Any]] = [
        {
            "id": str(i),
            "name": e.label,
            "color": e.color,
            "shape": e.shape,
            "x": 100 * a.top1,
            "low": 100 * a.ci95.low,
            "high": 100 * a.ci95.high,
            "text": percent(a.top1),
            "interval": f"{100 * a.ci95.low:.1f} to {100 * a.ci95.high:.1f}%",
            "counted": f"{a.correct} of {a.n}",
        }
        for i, e in enumerate(found)
        if (a := e.variant.accuracy) is not None
    ]
    if not rows:
        return None
    x = {"field": "x", "type": "quantitative", "scale": {"zero": False, "nice": True}}
    x["axis"] = axis("top-1 accuracy, %")
    layers = [
        marks("bar", x={"field": "low"}, x2={"field": "high"}, height=8, opacity=0.32, cornerRadius=4),
        marks(
            "point",
            size=95,
            filled=True,
            opacity=1,
            shape={"field": "shape", "type": "nominal", "scale": None},
        ),
    ]
    tips = (("text", "Top-1"), ("interval", "95% interval"), ("counted", "Right"))
    n = next(e.variant.accuracy.n for e in found if e.variant.accuracy is not None)
    grid = Grid(
        "Accuracy",
        ("Variant", "Top-1", "95% interval", "Right"),
        tuple((r["name"], r["text"], r["interval"], r["counted"]) for r in rows),
    )
    return Chart(
        name,
        f"Accuracy{suffix}",
        f"The point is the share of {n} samples classified rightly, the bar its 95% Wilson interval. "
        "The axis does not start at zero.",
        "Top-1 accuracy: " + "; ".join(f"{r['name']} {r['text']} ({r['interval']})" for r in rows),
        row_chart(rows, layers, x, tips),
        grid,
    )
