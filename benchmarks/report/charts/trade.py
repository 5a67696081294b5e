"""Accuracy against what it costs, with the Pareto front."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.report.cells import Grid, decimals, percent, size
from benchmarks.report.charts.spec import Chart, axis, color, tooltip
from benchmarks.report.comparison import entry, where
from benchmarks.report.energy import energy_of
from benchmarks.report.pareto import front
from benchmarks.report.runs import Entry

__all__ = ["energy_trade", "latency_trade", "size_trade"]

_HEIGHT = 300
Cost = tuple[float, str]


def latency_trade(
    found: Sequence[Entry], configuration: tuple[int, int], name: str, suffix: str = ""
) -> Chart | None:
    """Against the median latency of one run's variants."""

    def cost(e: Entry) -> Cost | None:
        latency = entry(e.variant, configuration)
        return None if latency is None else (latency.median_ms, f"{decimals(latency.median_ms)} ms")

    title = f"Accuracy against latency, {where(configuration)}{suffix}"
    return _trade(found, cost, name, title, "median latency, ms", "Latency", "faster")


def size_trade(found: Sequence[Entry], name: str, suffix: str = "") -> Chart | None:
    """Against the size of the file."""

    def cost(e: Entry) -> Cost:
        return e.variant.size_bytes / 2**20, size(e.variant.size_bytes)

    return _trade(found, cost, name, f"Accuracy against size{suffix}", "file, MiB", "File", "smaller")


def energy_trade(found: Sequence[Entry], name: str, suffix: str = "") -> Chart | None:
    """Against energy, where it was measured."""
    unit = next((energy.unit for e in found if (energy := energy_of(e.variant))), "")

    def cost(e: Entry) -> Cost | None:
        energy = energy_of(e.variant)
        if energy is None or energy.unit != unit:
            return None
        return energy.value, f"{decimals(energy.value)} {unit}"

    return _trade(
        found, cost, name, f"Accuracy against energy{suffix}", f"energy, {unit}", "Energy", "thriftier"
    )


def _trade(
    found: Sequence[Entry],
    cost: Callable[[Entry], Cost | None],
    name: str,
    title: str,
    unit: str,
    short: str,
    left: str,
) -> Chart | None:
    known = [(e, c, a) for e in found if (c := cost(e)) is not None and (a := e.variant.accuracy) is not None]
    if len(known) < 2:
        return None
    best = front([(c[0], a.top1) for _, c, a in known])
    rows: list[dict[str, Any]] = [
        {
            "name": e.label,
            "color": color(e.color),
            "shape": e.shape,
            "x": c[0],
            "y": 100 * a.top1,
            "low": 100 * a.ci95.low,
            "high": 100 * a.ci95.high,
            "cost": c[1],
            "top1": f"{percent(a.top1)} ({100 * a.ci95.low:.1f} to {100 * a.ci95.high:.1f}%)",
            "front": "yes" if i in best else "no",
        }
        for i, (e, c, a) in enumerate(known)
    ]
    names = ", ".join(rows[i]["name"] for i in best)
    x = {"field": "x", "type": "quantitative", "scale": {"zero": True, "nice": True}, "axis": axis(unit)}
    y = {"field": "y", "type": "quantitative", "scale": {"zero": False, "nice": True, "padding": 8}}
    y["axis"] = axis("top-1, %", titleAngle=0, titleAlign="left", titleAnchor="end", titleY=-12, titleX=-28)
    own = {"field": "color", "type": "nominal", "scale": None, "legend": None}
    tips = tooltip(("name", "Variant"), ("top1", "Top-1"), ("cost", short), ("front", "On the front"))
    spec = {
        "height": _HEIGHT,
        "data": {"values": rows},
        "layer": [
            {
                "data": {"values": [{"x": rows[i]["x"], "y": rows[i]["y"]} for i in best]},
                "mark": {
                    "type": "line",
                    "interpolate": "step-after",
                    "strokeDash": [5, 4],
                    "strokeWidth": 1.4,
                },
                "encoding": {"x": x, "y": y, "color": {"value": color("--muted")}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 7, "opacity": 0.22, "strokeCap": "round"},
                "encoding": {
                    "x": x,
                    "y": y | {"field": "low"},
                    "y2": {"field": "high"},
                    "color": own,
                    "tooltip": tips,
                },
            },
            {
                "transform": [{"filter": "datum.front == 'yes'"}],
                "mark": {
                    "type": "point",
                    "filled": False,
                    "size": 300,
                    "strokeWidth": 1.6,
                    "shape": "circle",
                },
                "encoding": {"x": x, "y": y, "color": {"value": color("--ink")}},
            },
            {
                "name": "points",
                "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": own,
                    "shape": {"field": "shape", "type": "nominal", "scale": None, "legend": None},
                    "tooltip": tips,
                },
            },
        ],
    }
    grid = Grid(
        title,
        ("Variant", "Top-1", short, "On the front"),
        tuple((str(r["name"]), str(r["top1"]), str(r["cost"]), str(r["front"])) for r in rows),
    )
    caption = (
        f"Up is more accurate, left is {left}. Ringed: the Pareto front, which no other variant beats in "
        f"both, by the figures as measured ({names}). The pale bars are 95% intervals; where they overlap, "
        "the order may be chance. The axis of accuracy does not start at zero."
    )
    alt = f"{title}: " + "; ".join(f"{r['name']} {r['top1']} at {r['cost']}" for r in rows)
    return Chart(name, title, caption, f"{alt}. On the Pareto front: {names}.", spec, grid, labels="points")
