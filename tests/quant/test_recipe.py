import copy

import pytest
import yaml

from quant.errors import BadInput
from quant.methods import make_method, method_names
from quant.recipe import Recipe, load_recipe, parse, shipped_recipes

RECIPE = {
    "name": "mine",
    "specs": {"a8": {"bits": 8}, "a4": {"bits": 4}, "w8": {"signed": True, "symmetric": True}},
    "roles": {"linear.input": "a8", "linear.weight": "w8"},
}


def recipe(**changes) -> Recipe:
    return parse(Recipe, copy.deepcopy(RECIPE) | changes, "recipe mine.yaml")


@pytest.mark.parametrize("name", ["int8", "int8_gelu_scale", "w4a16", "fp8"])
def test_shipped_recipes_load_and_their_methods_exist(name):
    shipped = load_recipe(name)
    assert shipped.name == name
    for method in shipped.methods:
        make_method(method.name, method.options)
    assert name in shipped_recipes()


def test_default_recipe_names_no_stream_normalization_or_activation_input():
    roles = set(load_recipe("int8").roles)
    assert roles.isdisjoint({"residual_add.input", "layer_norm.input", "softmax.input", "gelu.input"})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rolez": {}}, "unknown key 'rolez' (did you mean 'roles'?)"),
        ({"roles": {"linear.inptu": "a8"}}, "unknown role 'linear.inptu' (did you mean 'linear.input'?)"),
        ({"roles": {"linear.input": "a9"}}, "names spec 'a9'; defined: a8, a4, w8"),
        ({"specs": RECIPE["specs"] | {"a8": {"bitz": 8}}}, "'specs.a8.bitz' (did you mean 'bits'?)"),
        ({"specs": RECIPE["specs"] | {"a8": {"bits": 9}}}, "specs.a8.bits: Input should be less than"),
        ({"specs": RECIPE["specs"] | {"a8": {"observer": "minmx"}}}, "'minmx' (did you mean 'minmax'?)"),
        (
            {"specs": RECIPE["specs"] | {"a8": {"observer": "percentile", "observer_options": {"alfa": 1}}}},
            "no option alfa; allowed: alpha",
        ),
        ({"overrides": [{"module": "*", "roles": {}}]}, "'overrides.0.module' (did you mean 'modules'?)"),
        ({"overrides": [{"modules": "*", "roles": {"conv.in": None}}]}, "unknown role 'conv.in' (did you"),
        ({"name": "Not A Name"}, "name: String should match pattern"),
        ({"method_images": 0}, "method_images: Input should be greater"),
        ({"include": "head"}, "include: Input should be a valid tuple"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes, says):
    with pytest.raises(BadInput) as caught:
        recipe(**changes)
    message = str(caught.value)
    assert message.startswith("recipe mine.yaml: ")
    assert says in message
    assert "\n" not in message


def test_all_mistakes_are_named_at_once():
    with pytest.raises(BadInput, match=r"'rolez'.*; .*'exlude' \(did you mean 'exclude'\?\)"):
        recipe(rolez={}, exlude=[])


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("gelu_scal", {}, "unknown method 'gelu_scal' in the recipe (did you mean 'gelu_scale'?)"),
        ("gelu_scale", {"exponnt": 1}, "unknown key 'exponnt' (did you mean 'exponent'?)"),
        ("gelu_scale", {"exponent": 2}, "exponent: give a number from 0 to 1, or 'search'; not 2"),
        ("layer_norm_linear", {"zero_point": "half"}, "zero_point: Input should be 'integer' or 'zero'"),
    ],
)
def test_wrong_methods_are_said_in_one_line(name, options, says):
    with pytest.raises(BadInput) as caught:
        make_method(name, options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_shipped_method_is_registered():
    assert {"gelu_scale", "layer_norm_linear", "outlier_side_path"} <= set(method_names())


def test_spec_for_looks_at_include_exclude_and_the_last_override():
    chosen = recipe(
        include=["blocks.*", "head"],
        exclude=["*.fc2"],
        overrides=[
            {"modules": "blocks.*", "roles": {"linear.input": "a4"}},
            {"modules": "blocks.3.*", "roles": {"linear.input": None}},
            {"modules": "blocks.5.*", "roles": {"linear.output": "a8"}},
        ],
    )
    bits = {
        layer: (spec.bits if (spec := chosen.spec_for("linear.input", layer)) else None)
        for layer in ("head", "blocks.1.fc1", "blocks.3.fc1", "blocks.1.fc2", "stem")
    }
    assert bits == {"head": 8, "blocks.1.fc1": 4, "blocks.3.fc1": None, "blocks.1.fc2": None, "stem": None}
    assert chosen.spec_for("linear.output", "blocks.5.fc1") == chosen.specs["a8"]
    assert chosen.spec_for("linear.output", "blocks.1.fc1") is None


def test_a_file_is_read_as_the_same_recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    assert load_recipe(path) == recipe()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "is not valid YAML"),
        ("- 1", "must be a mapping with the keys name, "),
        ("", "must be a mapping"),
        ("name: x", "specs: Field required; roles: Field required"),
    ],
)
def test_bad_files_are_named(tmp_path, text, says):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_gives_the_nearest_name():
    with pytest.raises(BadInput, match=r"no recipe 'int9' \(did you mean 'int8'\?\); shipped: .*int8, "):
        load_recipe("int9")
