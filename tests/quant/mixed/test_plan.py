import copy

import pytest

from quant.graph import capture
from quant.mixed.groups import find_groups
from quant.mixed.plan import Choice, Plan, concrete_recipe
from quant.mixed.settings import Operands
from quant.placement import place_fake_quant
from quant.recipe import Recipe
from tests.export.small_models import calibrated_of, images_of, simple_recipe, tiny_vit


def plan_of(widths: dict[str, int], operands: Operands = Operands.TOGETHER) -> tuple[Recipe, Plan]:
    recipe = simple_recipe(activation={"bits": 8})
    _, calibrated = calibrated_of(tiny_vit(), images_of(4, 3, 32, 32), recipe)
    groups = find_groups(calibrated, operands)
    return recipe, Plan(tuple(Choice.of(group, widths.get(group.name, 8)) for group in groups))


@pytest.mark.parametrize("operands", [Operands.TOGETHER, Operands.WEIGHTS])
def test_the_concrete_recipe_gives_every_layer_its_width(operands: Operands) -> None:
    weights_only = operands is Operands.WEIGHTS
    recipe, plan = plan_of({"blocks.0.mlp.fc1": 4, "blocks.0.attn.qkv": 6, "head": 16}, operands)

    concrete = concrete_recipe(recipe, plan)

    graph = copy.deepcopy(capture(tiny_vit().eval(), images_of(2, 3, 32, 32)))
    sites = {site.name: site.spec.bits for site in place_fake_quant(graph, concrete)}
    assert sites["blocks.0.mlp.fc1.weight"] == 4
    assert sites["blocks.0.attn.qkv.weight"] == 6
    assert sites["blocks.0.mlp.fc2.weight"] == 8
    assert sites["blocks.0.mlp.fc1.input"] == (8 if weights_only else 4)
    assert sites["blocks.0.attn.qkv.input"] == (8 if weights_only else 6)
    assert "head.weight" not in sites
    assert ("head.input" in sites) == weights_only
    assert set(concrete.specs) >= {"weight_4", "weight_6"}
    assert ("input_4" in concrete.specs) == (not weights_only)
    assert plan.bits["blocks.0.mlp.fc1"] == 4


def test_weight_and_input_of_a_layer_can_differ() -> None:
    name = "blocks.0.mlp.fc1"
    recipe, plan = plan_of({f"{name}.weight": 4, f"{name}.input": 6}, Operands.SEPARATE)
    concrete = concrete_recipe(recipe, plan)
    found = {role: concrete.spec_for(f"linear.{role}", name) for role in ("weight", "input")}
    assert {role: spec and spec.bits for role, spec in found.items()} == {"weight": 4, "input": 6}
    assert [override.modules for override in concrete.overrides] == [name]


def test_only_the_width_of_a_format_changes_and_the_recipe_is_not_touched() -> None:
    recipe, plan = plan_of({"head": 4})
    before = recipe.model_dump_json()
    concrete = concrete_recipe(recipe, plan)
    changed = concrete.specs["weight_4"].model_copy(update={"bits": 8})
    assert changed == recipe.specs["weight"]
    assert [override.modules for override in concrete.overrides] == ["head"]
    assert recipe.model_dump_json() == before
    assert Recipe.model_validate(concrete.model_dump()) == concrete, "it can be written down and read back"


def test_a_name_that_is_taken_by_another_format_is_left_alone() -> None:
    recipe, plan = plan_of({"head": 4})
    taken = recipe.specs["weight"].model_copy(update={"bits": 3})
    recipe = recipe.model_copy(update={"specs": {**recipe.specs, "weight_4": taken}})
    concrete = concrete_recipe(recipe, plan)
    assert concrete.specs["weight_4"] == taken
    spec = concrete.spec_for("linear.weight", "head")
    assert spec is not None
    assert spec.bits == 4
