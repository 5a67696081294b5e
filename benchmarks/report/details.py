"""The smaller tables: agreement between stages, and where and how it was measured."""

from collections.abc import Mapping

from pydantic import JsonValue

from benchmarks.report.cells import DASH, Grid, label, optional, plain
from benchmarks.results import Summary, Variant

__all__ = ["environment_grid", "parity_grids", "settings_grid"]


def parity_grids(summary: Summary) -> tuple[Grid, ...]:
    """One table per variant with a parity record: a row per stage, or a row per figure."""
    return tuple(_parity(v, v.parity) for v in summary.variants if v.parity)


def environment_grid(summary: Summary) -> Grid:
    """Hardware, software and thread settings."""
    e = summary.environment
    rows = [
        *([("GPU", e.gpu)] if e.gpu else ()),
        ("CPU", f"{e.cpu or 'unknown'} ({e.architecture}), {e.cores} logical cores"),
        ("Instruction sets", ", ".join(e.isa) or DASH),
        ("Frequency governor", e.governor or "not readable"),
        ("Memory", f"{e.memory_gib:.1f} GiB"),
        ("System", e.system),
        ("Python", e.python),
        *((name, version) for name, version in e.packages.items()),
        ("Octavo commit", optional(_short, e.commit)),
        *e.thread_variables.items(),
    ]
    return Grid("Environment", ("", ""), tuple(rows))


def settings_grid(summary: Summary) -> Grid:
    """Every setting of the run, nested ones with dotted names."""
    return Grid("Settings", ("", ""), tuple(_flat(summary.settings)))


def _parity(variant: Variant, parity: Mapping[str, JsonValue]) -> Grid:
    title = f"Stage by stage, {label(variant.name)}"
    stages = {name: figures for name, figures in parity.items() if isinstance(figures, dict)}
    if len(stages) < len(parity):
        return Grid(title, ("", ""), tuple((_words(k), plain(v)) for k, v in parity.items()))
    columns = tuple(dict.fromkeys(key for figures in stages.values() for key in figures))
    rows = tuple(
        (_words(name), *(plain(figures.get(key)) for key in columns)) for name, figures in stages.items()
    )
    return Grid(title, ("", *map(_words, columns)), rows)


def _short(commit: str) -> str:
    identity, dash, state = commit.partition("-")
    return identity[:12] + (f" ({state} files)" if dash else "")


def _words(key: str) -> str:
    return key.replace("_", " ")


def _flat(settings: Mapping[str, JsonValue], prefix: str = "") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", plain(value)))
    return rows
