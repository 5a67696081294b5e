"""The smaller tables: what really runs on integers, agreement between stages, and where it was measured."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from benchmarks.report.cells import DASH, Grid, label, optional, percent, plain
from benchmarks.report.comparison import integer_share
from benchmarks.results import Summary, Variant

__all__ = ["audit_grids", "environment_grid", "parity_grids", "settings_grid"]

_LISTS = {"leftovers": "Left in float", "unfused": "Unfused groups"}


def audit_grids(summary: Summary) -> tuple[Grid, ...]:
    """An overview with one column per audited variant, then each variant's leftovers and unfused groups."""
    audited = [v for v in summary.variants if v.audit]
    if not audited:
        return ()
    audits = [v.audit or {} for v in audited]
    scalars = dict.fromkeys(
        key for audit in audits for key in audit if key not in {"integer_mac_share", *_LISTS}
    )
    rows = [
        ("Share of multiplications", *(optional(percent, integer_share(v)) for v in audited)),
        *((title, *(_count(audit.get(key)) for audit in audits)) for key, title in _LISTS.items()),
        *((_words(key), *(plain(audit.get(key)) for audit in audits)) for key in scalars),
    ]
    overview = Grid("What runs on integers", ("", *(label(v.name) for v in audited)), tuple(rows))
    lists = (_listing(v, key, title) for v in audited for key, title in _LISTS.items())
    return (overview, *(grid for grid in lists if grid))


def parity_grids(summary: Summary) -> tuple[Grid, ...]:
    """One table per variant with a parity record: a row per stage, or a row per figure."""
    return tuple(_parity(v, v.parity) for v in summary.variants if v.parity)


def environment_grid(summary: Summary) -> Grid:
    """Hardware, software and thread settings."""
    e = summary.environment
    rows = [
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


def _listing(variant: Variant, key: str, title: str) -> Grid | None:
    items = (variant.audit or {}).get(key)
    if not isinstance(items, list) or not items:
        return None
    heading = f"{title}, {label(variant.name)}"
    if all(isinstance(item, dict) for item in items):
        records = [item for item in items if isinstance(item, dict)]
        columns = tuple(dict.fromkeys(name for record in records for name in record))
        rows = tuple(tuple(plain(record.get(name)) for name in columns) for record in records)
        return Grid(heading, tuple(map(_words, columns)), rows)
    return Grid(heading, ("",), tuple((plain(item),) for item in items))


def _count(items: JsonValue) -> str:
    return str(len(items)) if isinstance(items, Sequence) and not isinstance(items, str) else plain(items)


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
