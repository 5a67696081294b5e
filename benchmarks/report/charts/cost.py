"""What a variant costs: its file, its memory, its energy."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.report.cells import Grid, decimals, size
from benchmarks.report.charts.spec import Chart, axis, color, marks, row_chart
from benchmarks.report.energy import energy_of
from benchmarks.report.runs import Entry

__all__ = ["energy_chart", "memory_chart", "size_chart"]


def size_chart(found: Sequence[Entry], name: str) -> Chart:
    """Every variant's file."""
    rows = _rows(found, lambda e: (e.variant.size_bytes / 2**20, size(e.variant.size_bytes)))
    return _bars(rows, name, "File size", "file, MiB", "What is shipped; weights beside the file included.")


def memory_chart(found: Sequence[Entry], name: str, suffix: str = "") -> Chart | None:
    """Peak resident memory of the variants it was measured for."""
    rows: list[dict[str, Any]] = []
    for row, e in _paired(found):
        memory = e.variant.memory
        if memory is not None:
            more: dict[str, Any] = {"x": memory.peak_mib, "base": min(memory.imported_mib, memory.peak_mib)}
            more |= {
                "text": f"{decimals(memory.peak_mib)} MiB",
                "runtime": f"{decimals(memory.imported_mib)} MiB",
            }
            rows.append(row | more | {"model": f"{decimals(memory.peak_delta_mib)} MiB"})
    if not rows:
        return None
    shade = marks(
        "bar",
        x={"field": "base"},
        x2={"datum": 0},
        height=12,
        opacity=0.55,
        color={"value": color("--surface")},
    )
    caption = "The most a fresh process ever held; the pale part is the runtime before the model is loaded."
    tips = (("text", "Peak"), ("runtime", "Runtime alone"), ("model", "Model alone"))
    return _bars(rows, name, f"Peak memory{suffix}", "resident, MiB", caption, [shade], tips)


def energy_chart(found: Sequence[Entry], name: str, suffix: str = "") -> Chart | None:
    """Energy of the variants it was measured for."""
    known = [(row, energy) for row, e in _paired(found) if (energy := energy_of(e.variant)) is not None]
    if not known:
        return None
    unit = known[0][1].unit
    rows: list[dict[str, Any]] = [
        row | {"x": energy.value, "text": f"{decimals(energy.value)} {unit}"}
        for row, energy in known
        if energy.unit == unit
    ]
    return _bars(rows, name, f"Energy{suffix}", f"energy, {unit}", "As the run measured it.")


def _paired(found: Sequence[Entry]) -> list[tuple[dict[str, Any], Entry]]:
    return [
        ({"id": str(i), "name": e.label, "color": e.color, "shape": e.shape}, e) for i, e in enumerate(found)
    ]


def _rows(found: Sequence[Entry], figure: Callable[[Entry], tuple[float, str]]) -> list[dict[str, Any]]:
    return [row | dict(zip(("x", "text"), figure(e), strict=True)) for row, e in _paired(found)]


def _bars(
    rows: list[dict[str, Any]],
    name: str,
    title: str,
    unit: str,
    caption: str,
    over: Sequence[dict[str, Any]] = (),
    tips: Sequence[tuple[str, str]] = (("text", "Figure"),),
) -> Chart:
    x = {"field": "x", "type": "quantitative", "scale": {"zero": True}, "axis": axis(unit)}
    layers = [marks("bar", x2={"datum": 0}, height=12, opacity=1, cornerRadiusEnd=3), *over]
    grid = Grid(
        title,
        ("Variant", *(name for _, name in tips)),
        tuple((r["name"], *(r[field] for field, _ in tips)) for r in rows),
    )
    alt = f"{title}: " + "; ".join(f"{r['name']} {r['text']}" for r in rows)
    return Chart(name, title, caption, alt, row_chart(rows, layers, x, tips), grid)
