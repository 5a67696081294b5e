"""A placement in a terminal."""

from rich.console import Console
from rich.text import Text

from benchmarks.placement.run import Placement
from benchmarks.report.cells import DASH, Grid, optional, percent, times
from benchmarks.report.terminal import print_grid

__all__ = ["print_placement"]


def print_placement(placement: Placement, console: Console) -> None:
    """Print the layers, the models, and what to take."""
    print_grid(_layers(placement), console)
    for unit in placement.table.declined:
        console.print(Text(f"{unit.unit}: as in the recipe; {unit.reason}", style="dim"))
    if placement.found is None:
        console.print(Text("Every layer is faster quantized: there is nothing to change", style="bold"))
        return
    print_grid(_models(placement), console)
    for row in placement.found.judged[1:]:
        console.print(Text(f"{row.name}: {'' if row.accepted else 'no, '}{row.text}", style="dim"))
    console.print(Text(placement.found.text, style="bold"))
    console.print(Text(f"The recipe to take: {placement.recipe}"))


def _layers(placement: Placement) -> Grid:
    table = placement.table
    plans = placement.plans
    shares = [f"{plan.share:.0%}" for plan in plans.values()]
    rows = [
        (
            unit.unit,
            f"{unit.quantized_ms:.3f}",
            f"{unit.plain_ms:.3f}",
            times(unit.speedup.value),
            f"{table.losses[unit.unit]:.2g}",
            *("float" if unit.unit in plan.plain else "" for plan in plans.values()),
        )
        for unit in table.times
    ]
    head = ("Layer", "codes, ms", "float, ms", "speed-up", "loss, nats", *shares)
    return Grid(
        f"Layers, batch {table.batch}, threads {table.threads}; what each plan leaves in float",
        head,
        tuple(rows),
    )


def _models(placement: Placement) -> Grid:
    assert placement.found is not None
    rows = [
        (
            row.name,
            DASH if row.plan is None else str(len(row.plan.plain)),
            f"{row.median_ms:.2f}",
            optional(lambda s: times(s.value), row.speedup),
            optional(lambda s: f"{s.low:.2f}–{s.high:.2f}", row.speedup),
            f"{row.drop:.2f}",
            percent(row.agreement),
            f"{row.sqnr_db:.1f}",
        )
        for row in placement.found.judged
    ]
    head = ("Model", "float", "ms", "speed-up", "95 %", "drop", "same answer", "SQNR")
    return Grid("Models in turns; speed-up over the start, drop in points, SQNR in dB", head, tuple(rows))
