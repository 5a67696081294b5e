"""A profile in a terminal: every layer, the worst one, and what to try there."""

import math

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmarks.profile.measure import LayerSensitivity
from benchmarks.report.cells import DASH, optional, percent
from quant.profile import Comparison, Finding, LayerProfile, Profile, remedies

__all__ = ["print_profile", "print_sensitivity"]

_HEAD = ("Layer", "QSNR", "alone", "cosine", "outliers, %", "weight", "W share")
_WORST = 3


def print_profile(profile: Profile, title: str, console: Console | None = None) -> None:
    """Print a table of layers, the blocks, the end, and the worst layers with what to try.

    Args:
        profile: the figures.
        title: what was profiled.
        console: where to; the terminal by default.
    """
    console = console or Console()
    worst = profile.worst(_WORST)
    console.print(_table(profile, title, worst))
    console.print(
        Text("QSNR: accumulated error, dB. alone: the layer fed with float input, dB.", style="dim")
    )
    console.print(
        Text("weight: SQNR of the weight, dB. W share: its part of the layer's noise.", style="dim")
    )
    end = profile.end_to_end
    console.print(
        Text(
            f"Logits over {profile.images} images: SQNR {_db(end.sqnr_db)} dB, agreement "
            f"{percent(end.agreement)}, cosine {end.cosine:.4f}, KL {end.kl:.2g}",
            style="bold",
        )
    )
    findings = remedies(profile, _WORST)
    for rank, layer in enumerate(worst):
        name = "Worst layer" if rank == 0 else "Next"
        style = "bold red" if rank == 0 else "yellow"
        console.print(Text(f"{name}: {layer.name}, {_db(layer.isolated.qsnr_db)} dB alone", style=style))
        said = [finding for finding in findings if finding.layer == layer.name]
        for finding in said:
            console.print(Padding(Text(_sentence(finding)), (0, 0, 0, 2)))
        if not said:
            console.print(
                Padding(Text("no rule applies; more bits are left to try (overrides)"), (0, 0, 0, 2))
            )


def print_sensitivity(found: LayerSensitivity, console: Console | None = None) -> None:
    """Print the layers that lose most at the narrowest width, by each metric."""
    console = console or Console()
    for metric in found.tables:
        worst = ", ".join(f"{name} ({value:.3g})" for name, value in found.ranked(metric)[:_WORST])
        console.print(Text(f"Most sensitive at {found.first.bits[0]} bits by {metric}: {worst}"))


def _table(profile: Profile, title: str, worst: list[LayerProfile]) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold", header_style="bold")
    for i, name in enumerate(_HEAD):
        table.add_column(Text(name), justify="left" if i == 0 else "right", overflow="fold")
    names = [layer.name for layer in worst]
    for layer in profile.layers:
        style = None
        if layer.name in names:
            style = "bold red" if layer.name == names[0] else "yellow"
        table.add_row(*map(Text, _cells(layer)), style=style)
    if profile.blocks:
        table.add_section()
    for block in profile.blocks:
        out = block.output
        cells = (block.name, _db(out.qsnr_db), "", f"{out.cosine:.4f}", _outliers(out), "", "")
        table.add_row(*map(Text, cells), style="dim")
    return table


def _cells(layer: LayerProfile) -> tuple[str, ...]:
    out, own = layer.output, layer.isolated
    noisy = math.isfinite(own.qsnr_db)
    return (
        layer.name,
        _db(out.qsnr_db),
        _db(own.qsnr_db),
        f"{out.cosine:.4f}",
        _outliers(out),
        optional(lambda weight: _db(weight.sqnr_db), layer.weight),
        f"{own.weight_share:.0%}" if noisy and layer.weight is not None else DASH,
    )


def _outliers(output: Comparison) -> str:
    return f"{100 * output.float_outliers:.1f} → {100 * output.quantized_outliers:.1f}"


def _db(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "∞" if value > 0 else "−∞"


def _sentence(finding: Finding) -> str:
    tries = f"; try {' or '.join(finding.tries)}" if finding.tries else ""
    return f"{finding.text}{tries}"
