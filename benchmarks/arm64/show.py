"""The comparison as tables of the terminal."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from benchmarks.arm64.comparison import Found, Pair

__all__ = ["held_table", "pairs_table", "scientific"]


def pairs_table(found: Sequence[Found], own: Mapping[str, Pair]) -> Table:
    """Logits end to end: ARM against each other side, then this machine against itself."""
    table = Table(title="Logits end to end: max |a − b| / max |b|")
    for name in ("a", "b"):
        table.add_column(name)
    for name in ("Relative", "Same top-1", "Worst image"):
        table.add_column(name, justify="right")
    rows = [(f"{one.cpu}, {pair.what}", pair) for one in found for pair in one.pairs]
    for name, pair in (*rows, *((pair.what, pair) for pair in own.values())):
        far = pair.apart
        same = f"{far.same_top1} of {far.images}"
        table.add_row(name, pair.against, scientific(far.relative), same, str(far.worst))
    return table


def held_table(found: Sequence[Found]) -> Table:
    """What ARM makes of the same codes."""
    table = Table(title="From the same codes: ARM's kernels against ONNX's definition on x86")
    table.add_column("")
    for name in ("Places", "Worst, relative", "Logits", "Roundings that differ"):
        table.add_column(name, justify="right")
    for one in found:
        for target, held in one.roundings.items():
            flips = f"{held.flipped} of {held.codes:,}"
            worst = f"{scientific(held.worst)}, {held.where}"
            name = f"{one.cpu}, {target} file"
            table.add_row(name, str(held.places), worst, scientific(held.logits), flips)
    return table


def scientific(value: float) -> str:
    """Two digits and a power of ten; 0 for none."""
    return f"{value:.1e}" if value else "0"
