"""Speed-ups and latencies of one run at one batch size and thread count."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.report.cells import Grid, decimals, times
from benchmarks.report.charts.spec import Chart, axis, color, marks, row_chart
from benchmarks.report.comparison import entry, where
from benchmarks.report.runs import Entry

__all__ = ["latency_chart", "speedup_chart"]

_LEVELS = (5, 25, 75, 95)


def speedup_chart(
    found: Sequence[Entry], configuration: tuple[int, int], name: str, suffix: str = ""
) -> Chart | None:
    """One row per variant that was timed beside the reference of its run."""
    rows: list[dict[str, Any]] = []
    for i, e in enumerate(found):
        latency = entry(e.variant, configuration)
        if latency is None or latency.speedup is None:
            continue
        s = latency.speedup
        verdict = "faster" if s.low > 1 else "slower" if s.high < 1 else "no difference beyond chance"
        rows.append(
            {
                "id": str(i),
                "name": e.label,
                "color": e.color,
                "shape": e.shape,
                "x": s.value,
                "low": s.low,
                "high": s.high,
                "text": times(s.value),
                "interval": f"{s.low:.2f} to {s.high:.2f}×",
                "verdict": verdict,
            }
        )
    if not rows:
        return None
    ends = [value for row in rows for value in (row["low"], row["high"])]
    room = 0.06 * (max(1.0, *ends) - min(1.0, *ends)) or 0.05
    domain = [min(1.0, *ends) - room, max(1.0, *ends) + room]
    x = {"field": "x", "type": "quantitative", "scale": {"domain": domain, "nice": False, "zero": False}}
    x["axis"] = axis("times the speed of the reference")
    layers = [
        marks("tick", x={"datum": 1}, size=26, thickness=1.6, color={"value": color("--ink")}),
        marks("bar", x={"field": "low"}, x2={"field": "high"}, height=8, opacity=0.32, cornerRadius=4),
        marks(
            "point",
            size=95,
            filled=True,
            opacity=1,
            shape={"field": "shape", "type": "nominal", "scale": None},
        ),
    ]
    tips = (("text", "Speed-up"), ("interval", "95% interval"), ("verdict", "So"))
    grid = Grid(
        "Speed-up",
        ("Variant", "Speed-up", "95% interval", "So"),
        tuple((r["name"], r["text"], r["interval"], r["verdict"]) for r in rows),
    )
    return Chart(
        name,
        f"Speed-up, {where(configuration)}{suffix}",
        "Right of the line is faster than the reference, left of it slower. The bar is the 95% "
        "interval; where it touches the line, the difference may be chance.",
        "Speed-ups: " + "; ".join(f"{r['name']} {r['text']} ({r['interval']}), {r['verdict']}" for r in rows),
        row_chart(rows, layers, x, tips),
        grid,
    )


def latency_chart(
    found: Sequence[Entry], configuration: tuple[int, int], name: str, suffix: str = ""
) -> Chart | None:
    """One row per variant that was timed: its median, quartiles, and the middle 90% of its calls."""
    rows: list[dict[str, Any]] = []
    for i, e in enumerate(found):
        latency = entry(e.variant, configuration)
        if latency is None or not latency.samples_ms:
            continue
        low, q1, q3, high = (float(q) for q in np.percentile(latency.samples_ms, _LEVELS))
        rows.append(
            {
                "id": str(i),
                "name": e.label,
                "color": e.color,
                "shape": e.shape,
                "low": low,
                "q1": q1,
                "x": latency.median_ms,
                "q3": q3,
                "high": high,
                "text": f"{decimals(latency.median_ms)} ms",
                "quartiles": f"{decimals(q1)} to {decimals(q3)} ms",
                "middle": f"{decimals(low)} to {decimals(high)} ms",
                "p99": f"{decimals(latency.p99_ms)} ms",
                "calls": str(len(latency.samples_ms)),
            }
        )
    if not rows:
        return None
    x = {"field": "x", "type": "quantitative", "scale": {"zero": True, "nice": True}}
    x["axis"] = axis("latency of one call, ms")
    layers = [
        marks("rule", x={"field": "low"}, x2={"field": "high"}, strokeWidth=1.6),
        marks("bar", x={"field": "q1"}, x2={"field": "q3"}, height=12, opacity=0.45, cornerRadius=2),
        marks("tick", size=18, thickness=2.4, color={"value": color("--ink")}),
    ]
    tips = (
        ("text", "Median"),
        ("quartiles", "Middle 50%"),
        ("middle", "Middle 90%"),
        ("p99", "p99"),
        ("calls", "Calls"),
    )
    grid = Grid(
        "Latency",
        ("Variant", "Median", "Middle 50%", "Middle 90%", "p99", "Calls"),
        tuple((r["name"], r["text"], r["quartiles"], r["middle"], r["p99"], r["calls"]) for r in rows),
    )
    return Chart(
        name,
        f"Latency, {where(configuration)}{suffix}",
        "The tick is the median, the box the middle half of the calls, the line the middle 90%. "
        "Variants took turns, call by call.",
        "Median latency: " + "; ".join(f"{r['name']} {r['text']}" for r in rows),
        row_chart(rows, layers, x, tips),
        grid,
    )
