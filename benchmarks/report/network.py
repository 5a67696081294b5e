"""The audit as a picture: every multiplication of the network, block by block, and how it is run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report.audit import AuditView, Multiplication, audit_view
from benchmarks.report.cells import percent
from benchmarks.report.runs import Entry

__all__ = ["Block", "Cell", "Network", "networks"]

_BLOCK = re.compile(
    r"(?:[A-Za-z_]\w*\.\d+\.)+"
)  # blocks.0. of blocks.0.mlp.fc1; stages.2.blocks.1. of a Swin


@dataclass(frozen=True)
class Cell:
    """One multiplication.

    Attributes:
        name: the last part of its module's name.
        state: ``integer``, ``weight`` (only the weight is quantized), ``float`` (as the recipe wants it) or
            ``broken`` (meant to be quantized, but run in float).
        width: its share of the work of the largest block, in percent.
        told: everything about it in one line.
    """

    name: str
    state: str
    width: float
    told: str


@dataclass(frozen=True)
class Block:
    """The multiplications of one block, in the order of execution."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Network:
    """The picture of one variant.

    Attributes:
        entry: the variant.
        share: of all multiply-accumulates done on integers, as text.
        summary: one sentence that says what the picture shows.
        blocks: in the order of execution.
    """

    entry: Entry
    share: str
    summary: str
    blocks: tuple[Block, ...]


_STATES = {
    "integer": "runs on integers",
    "weight": "runs in float; only its weight is quantized",
    "float": "left in float by the recipe",
    "broken": "quantized, but run in float",
}

_COUNTED = {
    "integer": "on integers",
    "weight": "in float with quantized weights",
    "float": "in float by the recipe",
    "broken": "in float against the recipe",
}


def networks(found: Sequence[Entry]) -> tuple[Network, ...]:
    """A picture for each audited variant.

    Raises:
        BadInput: a record is not one of an audit.
    """
    seen = [(e, view) for e in found if (view := audit_view(e.variant)) is not None]
    return tuple(_network(e, view) for e, view in seen if view.multiplications)


def _network(e: Entry, audit: AuditView) -> Network:
    groups: dict[str, list[Multiplication]] = {}
    for item in audit.multiplications:
        groups.setdefault(_block(item.module), []).append(item)
    total = sum(item.macs for item in audit.multiplications) or 1
    largest = max(sum(item.macs for item in items) for items in groups.values()) or 1
    blocks = tuple(
        Block(name, tuple(_cell(item, largest, total) for item in items)) for name, items in groups.items()
    )
    counts = dict.fromkeys(_STATES, 0)
    for item in audit.multiplications:
        counts[_state(item)] += 1
    parts = [f"{counts[state]} {words}" for state, words in _COUNTED.items() if counts[state]]
    summary = f"{len(audit.multiplications)} multiplications: {', '.join(parts)}."
    return Network(e, percent(audit.total_share), summary, blocks)


def _cell(item: Multiplication, largest: int, total: int) -> Cell:
    state = _state(item)
    why = "; ".join(" – ".join(filter(None, (f.reason, f.remedy))) for f in item.findings)
    told = (
        f"{item.module}: {_STATES[state]}. {item.op}, {item.kind}, {percent(item.macs / total)} of the work."
    )
    return Cell(
        _short(item.module),
        state,
        100 * item.macs / largest,
        f"{told} {why}.".replace("..", ".") if why else told,
    )


def _short(module: str) -> str:
    """The last part of a name; with the one before it where it is a number."""
    parts = module.split(".")
    return parts[-1] if len(parts) == 1 or not parts[-1].isdigit() else ".".join(parts[-2:])


def _state(item: Multiplication) -> str:
    if item.integer:
        return "integer"
    if item.intended:
        return "broken"
    return "weight" if any(f.rule == "weight-only" for f in item.findings) else "float"


def _block(module: str) -> str:
    found = _BLOCK.match(module)
    return found[0][:-1] if found else module.partition(".")[0]
