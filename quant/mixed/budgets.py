"""What widths cost: the budgets of a recipe as constraints."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from quant.calibrated import CalibratedGraph
from quant.census import LayerCount, take_census
from quant.energy.bits import FLOAT_BITS, LayerBits, bits_of
from quant.energy.model import energy_of
from quant.errors import BadInput
from quant.mixed.constraint import Constraint
from quant.mixed.groups import Group
from quant.mixed.settings import FLOAT, Budget

__all__ = ["make_constraints"]

Costs = Callable[[Group, int], float]


def make_constraints(
    budget: Budget,
    groups: Sequence[Group],
    bits: Sequence[int],
    kept: Mapping[str, int],
    calibrated: CalibratedGraph,
) -> list[Constraint]:
    """A budget for the groups that are decided; mean bits of separate operands are two, unless jointly.

    Args:
        budget: the limit.
        groups: all groups of the graph.
        bits: the widths to choose from.
        kept: the width of groups that are not decided. They count in every budget but ``mean_bits``.
        calibrated: the graph the groups are of.

    Raises:
        BadInput: the table of latencies cannot be read or lacks a layer.
    """
    decided = [group for group in groups if group.name not in kept]

    def constraint(name: str, unit: str, cost: Costs, fixed: float = 0.0) -> Constraint:
        table = np.array([[cost(group, b) for b in bits] for group in decided])
        limit = budget.value
        if budget.relative_to is not None:
            limit *= sum(cost(group, budget.relative_to) for group in decided) + fixed
        return Constraint(name, unit, table, limit, fixed)

    if budget.kind == "mean_bits":
        return [constraint(n, " bits", cost) for n, cost in _mean_bits(budget, decided, calibrated).items()]
    cost: Costs = _megabytes
    unit, fixed = " MB", 0.0
    if budget.kind == "energy":
        unit, (cost, fixed) = " mJ", _millijoules(groups, calibrated)
    elif budget.kind == "latency":
        unit, cost = " ms", _milliseconds(budget.table or Path())
    fixed += sum(cost(group, kept[group.name]) for group in groups if group.name in kept)
    return [constraint(budget.kind, unit, cost, fixed)]


def _mean_bits(budget: Budget, decided: Sequence[Group], calibrated: CalibratedGraph) -> dict[str, Costs]:
    """By name: n_g b / Σ n, with n the weights or multiply-accumulates of a group's layers.

    Jointly it is half of that, over weights and over inputs: what each alone has at the mean, both have.
    """
    if budget.weighted_by == "weights":
        count = {group.name: float(group.parameters) for group in decided}
    else:
        by_name = _census(calibrated)
        count = {group.name: float(sum(by_name[n].macs for n in group.layers)) for group in decided}

    def over(members: Sequence[Group]) -> Costs:
        names = {group.name for group in members}
        total = sum(count[name] for name in names)
        return lambda group, bits: count[group.name] * bits / total if group.name in names else 0.0

    inputs = [group for group in decided if group.weights == 0]
    weights = [group for group in decided if group.weights > 0]
    if not inputs:
        return {"mean bits": over(weights)}
    of_weights, of_inputs = over(weights), over(inputs)
    if budget.jointly:
        return {"mean bits": lambda group, bits: (of_weights(group, bits) + of_inputs(group, bits)) / 2}
    return {"mean bits of weights": of_weights, "mean bits of inputs": of_inputs}


def _megabytes(group: Group, bits: int) -> float:
    return group.weights * bits / 8 / 1e6


def _millijoules(groups: Sequence[Group], calibrated: CalibratedGraph) -> tuple[Costs, float]:
    """The cost of a group, and what all other layers spend; outputs count as the recipe has them."""
    census = _census(calibrated)
    usual = bits_of(calibrated.recipe, census.values())
    grouped = {name for group in groups for name in group.layers}

    def joules(names: Sequence[str], bits: Mapping[str, LayerBits]) -> float:
        return energy_of([census[name] for name in names], bits).total

    def cost(group: Group, bits: int) -> float:
        at = {layer: _widths(group, layer, bits, usual[layer]) for layer in group.layers}
        return 1e3 * joules(group.layers, at)

    return cost, 1e3 * joules([name for name in census if name not in grouped], usual)


def _widths(group: Group, layer: str, bits: int, usual: LayerBits) -> LayerBits:
    """The operands' widths with a group at ``bits``; what the group does not quantize stays."""
    width = FLOAT_BITS if bits == FLOAT else bits
    ends = {role.rpartition(".")[2] for name, role in group.places if name == layer}
    return LayerBits(
        weight=width if "weight" in ends else usual.weight,
        activation=width if "input" in ends else usual.activation,
        output=width if "output" in ends else usual.output,
    )


def _milliseconds(path: Path) -> Costs:
    times: dict[tuple[str, int], float] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                times[row["layer"], int(row["bits"])] = float(row["milliseconds"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BadInput(
            f"mixed precision: {path} is not a table of times ({error}); it needs the columns layer, bits, "
            "milliseconds"
        ) from error

    def cost(group: Group, bits: int) -> float:
        missing = [layer for layer in group.layers if (layer, bits) not in times]
        if missing:
            raise BadInput(f"mixed precision: {path} has no time of layer '{missing[0]}' at {bits} bits")
        return sum(times[layer, bits] for layer in group.layers)

    return cost


def _census(calibrated: CalibratedGraph) -> dict[str, LayerCount]:
    return {layer.name: layer for layer in take_census(calibrated.reference)}
