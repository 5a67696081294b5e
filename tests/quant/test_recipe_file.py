from pathlib import Path

import pytest

from quant.errors import BadInput
from quant.recipe import load_recipe, load_recipes
from quant.recipe_file import merged


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_changes_are_merged_into_what_a_recipe_builds_on(tmp_path: Path) -> None:
    text = """
base: int8
name: mine
specs: {weight: {bits: 4}}
roles: {patch_conv.input: null}
methods+: [{name: bias_correction}]
"""
    base, mine = load_recipe("int8"), load_recipe(written(tmp_path, text))
    assert (mine.specs["weight"].bits, mine.specs["weight"].granularity) == (
        4,
        base.specs["weight"].granularity,
    )
    assert mine.specs["activation"] == base.specs["activation"]
    assert set(base.roles) - set(mine.roles) == {"patch_conv.input"}
    assert [m.name for m in mine.methods] == [*(m.name for m in base.methods), "bias_correction"]


def test_a_base_may_be_a_file_beside_it_that_builds_on_another(tmp_path: Path) -> None:
    written(tmp_path, "{base: int8, name: first, specs: {weight: {bits: 6}}}", "first.yaml")
    second = load_recipe(written(tmp_path, "{base: first.yaml, name: second, seed: 3}"))
    assert (second.name, second.seed, second.specs["weight"].bits) == ("second", 3, 6)


def test_a_recipe_built_on_itself_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "{base: b.yaml, name: a}", "a.yaml")
    written(tmp_path, "{base: a.yaml, name: b}", "b.yaml")
    with pytest.raises(BadInput, match=r"b\.yaml: its base 'a\.yaml' is built on the recipe itself"):
        load_recipe(tmp_path / "a.yaml")


GRID = """
base: int8
name: "{granularity}_{bits}"
description: weights of {bits} bits, {granularity}
axes:
  granularity: {tensor: {specs: {weight: {granularity: per_tensor}}}, channel: }
  bits:
    8:
    4: {specs: {weight: {bits: 4}}}
exclude_cells: [{granularity: tensor, bits: 4}]
"""


def test_a_grid_gives_a_recipe_for_each_cell_that_is_not_excluded(tmp_path: Path) -> None:
    recipes = load_recipes(written(tmp_path, GRID))
    assert [r.name for r in recipes] == ["tensor_8", "channel_8", "channel_4"]
    assert [r.specs["weight"].bits for r in recipes] == [8, 8, 4]
    assert [r.specs["weight"].granularity for r in recipes] == ["per_tensor", *["per_channel"] * 2]
    assert recipes[2].description == "weights of 4 bits, channel"


def test_a_grid_is_no_single_recipe(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"grid of 3 \(tensor_8, channel_8, channel_4\); one is needed"):
        load_recipe(written(tmp_path, GRID))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("exclude_cells: [{granularity: tensor", "exclude_cells: [{granularity: row", "'granularity': 'row'"),
        ("{granularity}_{bits}", "{kind}_{bits}", "may name the axes granularity, bits"),
        ("axes:\n  granularity: {", "axes:\n  none: {}\n  granularity: {", "axes must be a mapping"),
        ("[{granularity: tensor, bits: 4}]", "[{bits: 4}, {bits: 8}]", "every cell of the grid is excluded"),
        ("{specs: {weight: {bits: 4}}}", "{specs: {weight: {bits: 40}}}", "specs.weight"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GRID
    with pytest.raises(BadInput) as caught:
        load_recipes(written(tmp_path, GRID.replace(old, new)))
    assert says in str(caught.value)


def test_only_lists_are_added_to() -> None:
    assert merged({"a": [1]}, {"a+": [2], "b+": [3]}) == {"a": [1, 2], "b": [3]}
    with pytest.raises(BadInput, match=r"'a\+' adds to a list"):
        merged({"a": {}}, {"a+": [1]})
