from pathlib import Path

import numpy as np
import pytest

from quant.calibrate import CalibratedGraph
from quant.census import take_census
from quant.energy.bits import bits_of
from quant.energy.model import energy_of
from quant.errors import BadInput
from quant.mixed.budgets import make_constraints
from quant.mixed.groups import Group, find_groups
from quant.mixed.plan import Choice, Plan, concrete_recipe
from quant.mixed.settings import Budget, Operands
from tests.export.small_models import calibrated_of, images_of, simple_recipe, tiny_vit

BITS = (4, 8, 16)
WEIGHTS = {
    "patch_embed.proj": 48 * 192,
    "blocks.0.attn.qkv": 144 * 48,
    "blocks.0.attn.proj": 48 * 48,
    "blocks.0.mlp.fc1": 192 * 48,
    "blocks.0.mlp.fc2": 48 * 192,
    "head": 10 * 48,
}
CALLS = dict.fromkeys(WEIGHTS, 17) | {"patch_embed.proj": 16, "head": 1}
"""Tokens of an image of 4 × 4 patches with a class token; the head reads one."""


@pytest.fixture(scope="module")
def calibrated() -> CalibratedGraph:
    return calibrated_of(tiny_vit(), images_of(4, 3, 32, 32), simple_recipe())[1]


@pytest.fixture(scope="module")
def groups(calibrated: CalibratedGraph) -> list[Group]:
    return find_groups(calibrated)


def test_mean_bits_leave_out_what_is_kept(calibrated: CalibratedGraph, groups: list[Group]) -> None:
    kept = {"patch_embed.proj": 8, "head": 8}
    for weighted_by, counts in [
        ("weights", WEIGHTS),
        ("macs", {name: WEIGHTS[name] * CALLS[name] for name in WEIGHTS}),
    ]:
        budget = Budget.model_validate({"kind": "mean_bits", "value": 6, "weighted_by": weighted_by})
        (constraint,) = make_constraints(budget, groups, BITS, kept, calibrated)
        decided = np.array([counts[name] for name in WEIGHTS if name not in kept], dtype=np.float64)
        expected = decided[:, None] * np.array(BITS) / decided.sum()
        np.testing.assert_allclose(constraint.cost, expected)
        assert (constraint.limit, constraint.fixed) == (6.0, 0.0)
        assert constraint.total(np.array([1, 1, 1, 1])) == pytest.approx(8.0)


def test_weights_and_inputs_each_keep_their_mean(calibrated: CalibratedGraph) -> None:
    groups = find_groups(calibrated, Operands.SEPARATE)
    budget = Budget(kind="mean_bits", value=6)
    weights, inputs = make_constraints(budget, groups, (4, 6, 8), {}, calibrated)
    assert (weights.limit, inputs.limit) == (6.0, 6.0)
    by_name = {group.name: row for row, group in enumerate(groups)}
    total = sum(WEIGHTS.values())
    for name, count in WEIGHTS.items():
        expected = np.array([4, 6, 8]) * count / total
        np.testing.assert_allclose(weights.cost[by_name[f"{name}.weight"]], expected)
        np.testing.assert_allclose(inputs.cost[by_name[f"{name}.input"]], expected)
        assert not weights.cost[by_name[f"{name}.input"]].any()
        assert not inputs.cost[by_name[f"{name}.weight"]].any()


def test_size_counts_every_quantized_weight(calibrated: CalibratedGraph, groups: list[Group]) -> None:
    budget = Budget(kind="size", value=0.5, relative_to=8)
    (constraint,) = make_constraints(budget, groups, BITS, {"head": 16}, calibrated)
    head, others = WEIGHTS["head"], sum(WEIGHTS.values()) - WEIGHTS["head"]
    assert constraint.fixed == pytest.approx(2 * head / 1e6)
    assert constraint.total(np.zeros(5, dtype=np.intp)) == pytest.approx((others / 2 + 2 * head) / 1e6)
    assert constraint.limit == pytest.approx(0.5 * (others + 2 * head) / 1e6)


def test_energy_is_that_of_the_concrete_recipe(calibrated: CalibratedGraph, groups: list[Group]) -> None:
    kept = {"head": 8}
    budget = Budget(kind="energy", value=1.0)
    (constraint,) = make_constraints(budget, groups, BITS, kept, calibrated)
    census = take_census(calibrated.reference)
    choice = np.array([0, 1, 2, 0, 1])
    names = [group.name for group in groups if group.name not in kept]
    widths = kept | {name: BITS[column] for name, column in zip(names, choice, strict=True)}
    plan = Plan(tuple(Choice.of(group, widths[group.name]) for group in groups))
    concrete = concrete_recipe(calibrated.recipe, plan)
    expected = energy_of(census, bits_of(concrete, census)).total * 1e3
    assert constraint.total(choice) == pytest.approx(expected)


def test_latency_is_read_from_a_table(
    calibrated: CalibratedGraph, groups: list[Group], tmp_path: Path
) -> None:
    path = tmp_path / "times.csv"
    rows = [f"{name},{b},{b + i / 8}" for i, name in enumerate(WEIGHTS) for b in (8, 16)]
    path.write_text("\n".join(["layer,bits,milliseconds", *rows]), encoding="utf-8")
    budget = Budget(kind="latency", value=60.0, table=path)
    (constraint,) = make_constraints(budget, groups, (8, 16), {"head": 8}, calibrated)
    np.testing.assert_allclose(constraint.cost, [[8 + i / 8, 16 + i / 8] for i in range(5)])
    assert constraint.fixed == 8 + 5 / 8

    with pytest.raises(BadInput, match=r"no time of layer 'patch_embed\.proj' at 4 bits"):
        make_constraints(budget, groups, BITS, {}, calibrated)
    path.write_text("layer,bits\nhead,8\n", encoding="utf-8")
    with pytest.raises(BadInput, match="needs the columns layer, bits, milliseconds"):
        make_constraints(budget, groups, (8, 16), {}, calibrated)
