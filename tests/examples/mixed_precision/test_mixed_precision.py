"""The workload's recipes and its suite: what the README says of them, and that the suite can begin."""

from pathlib import Path

import pytest

from benchmarks.suite import begin
from quant.energy.pann import budget_of_bits, candidates
from quant.recipe import Recipe, load_recipes

ROOT = Path(__file__).resolve().parents[3]
RECIPES = ROOT / "examples" / "mixed_precision"
PERCENTS = (70, 80, 90)


def recipes(name: str) -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in load_recipes(RECIPES / f"{name}.yaml")}


def test_uniform_recipes_differ_in_nothing_but_their_width() -> None:
    found = recipes("uniform")
    assert list(found) == ["uniform8", "uniform6", "uniform4"]
    for bits, recipe in zip((8, 6, 4), found.values(), strict=True):
        assert {recipe.specs[name].bits for name in ("activation", "weight")} == {bits}
        assert recipe.specs["attention"].bits == 8
        assert recipe.methods == found["uniform8"].methods


def test_every_solver_has_every_budget() -> None:
    found = recipes("mixed")
    solvers = {
        "thresholds": ("thresholds", "output_l2"),
        "milp": ("milp", "kl"),
        "nuclear": ("milp", "nuclear_norm"),
    }
    assert list(found) == [f"{solver}{percent}" for solver in solvers for percent in PERCENTS]
    for solver, (kind, metric) in solvers.items():
        for percent in PERCENTS:
            settings = found[f"{solver}{percent}"].mixed_precision
            assert settings is not None
            assert (settings.solver, settings.metric, settings.bits) == (kind, metric, (4, 6, 8))
            (budget,) = settings.budget
            assert (budget.kind, budget.relative_to, budget.value) == (
                "energy",
                8,
                pytest.approx(percent / 100),
            )


def test_every_budget_of_bit_flips_leaves_additions() -> None:
    budgets = {}
    for recipe in recipes("pann").values():
        (method,) = (m for m in recipe.methods if m.name == "pann")
        budget = budget_of_bits(method.options["budget_bits"])
        (way,) = candidates(budget, (recipe.specs["activation"].bits,))
        budgets[recipe.name] = (budget, way.activation_bits, round(way.additions, 2))
    assert budgets == {
        "pann2": (10.0, 6, 1.17),
        "pann3": (16.5, 6, 2.25),
        "pann4": (24.0, 6, 3.5),
        "pann6": (42.0, 8, 4.75),
        "pann8": (64.0, 8, 7.5),
    }


def test_the_suite_can_begin(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models, images, recipes and the options of every analysis are checked before anything is done."""
    monkeypatch.setenv("OCTAVO_DATA", str(data_dir))
    lines = begin(ROOT / "examples" / "mixed_precision.yaml", tmp_path)
    assert [line.workspace.root.name for line in lines] == ["vit", "resnet20"]
    assert [entry.name for entry in lines[0].config.analyses] == ["allocation", "energy", "pann"]
