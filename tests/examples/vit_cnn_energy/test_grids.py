"""The grids of the example: which cells they have, and what differs between two of them."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.analyses.cells import CellsOptions
from deploy.pipeline.config import RunConfig, config_of
from deploy.pipeline.suite import suite_of
from quant.recipe import Recipe, load_recipes, parse

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SUITE = EXAMPLES / "vit_cnn_energy.yaml"
FOLDER = EXAMPLES / "vit_cnn_energy"
NARROW = {
    "vit_cells.yaml": ("linear.input", "linear.weight", "attention_qk.input", "attention_pv.input"),
    "cnn_cells.yaml": ("conv.input", "conv.weight", "conv.output"),
}
UNSIGNED = ("positive", "edge_positive", "probability")
WIDTHS = ("8", "6", "4", "mixed")


def grid(name: str) -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in load_recipes(FOLDER / name)}


@pytest.fixture(scope="module")
def runs() -> dict[str, RunConfig]:
    suite = {name: config_of(data, SUITE) for name, data in suite_of(SUITE).items()}
    path = FOLDER / "resnet18.yaml"
    return suite | {"resnet18": config_of(yaml.safe_load(path.read_text(encoding="utf-8")), path)}


def options_of(config: RunConfig) -> CellsOptions:
    (entry,) = (entry for entry in config.analyses if entry.name == "cells")
    return parse(CellsOptions, entry.options, "cells")


def test_every_cell_is_in_its_run_or_the_table_says_why_not(runs: dict[str, RunConfig]) -> None:
    assert set(runs) == {"vit_tiny", "deit_tiny", "resnet20", "resnet56", "resnet18"}
    for name, config in runs.items():
        options = options_of(config)
        cells = [tuple(cell.values()) for cell in options.every_cell()]
        assert cells == list(itertools.product(("tensor", "channel"), ("standard", "ranking"), WIDTHS))
        there = {recipe.name for path in config.recipe for recipe in load_recipes(path)}
        for cell in options.every_cell():
            has_attention = name.endswith("tiny")
            wanted = has_attention or cell["scales"] == "standard"
            assert (options.name_of(cell) in there) == wanted
            assert options.reason(cell).startswith("not in this run" if wanted else "not applicable")


@pytest.mark.parametrize("file", ["vit_cells.yaml", "cnn_cells.yaml"])
def test_cells_differ_in_what_their_names_say(file: str) -> None:
    cells = grid(file)
    for name, recipe in cells.items():
        weights, scales, bits = name.split("_")
        specs = recipe.specs
        wanted = "per_channel" if weights == "channel" else "per_tensor"
        assert specs["weight"].granularity == specs["edge_weight"].granularity == wanted
        assert specs["activation"].granularity == "per_tensor"
        widths = {specs[s].bits for s in {recipe.roles[r] for r in NARROW[file]}}
        assert widths == {6 if bits == "mixed" else int(bits)}
        assert all((s.symmetric and s.signed) == (spec not in UNSIGNED) for spec, s in specs.items())
        methods = [method.name for method in recipe.methods]
        assert ("bias_correction" in methods) == (scales != "uncorrected")
        assert ("ranking_aware" in methods) == (scales == "ranking")
        assert (recipe.mixed_precision is not None) == (bits == "mixed")
    assert {name.split("_")[2] for name in cells if "uncorrected" in name} == {"8", "6", "4"}


def test_mixed_cells_have_the_energy_of_six_bits() -> None:
    for recipe in (grid("vit_cells.yaml") | grid("cnn_cells.yaml")).values():
        if recipe.mixed_precision is not None:
            (budget,) = recipe.mixed_precision.budget
            assert (budget.kind, budget.value, budget.relative_to) == ("energy", 1.0, 6)


def test_tuned_recipes_are_named_like_cells() -> None:
    assert set(grid("cnn_tuned.yaml")) == {"channel_tuned_8", "channel_tuned_6", "channel_tuned_4"}
    options: dict[str, Any] = {"names": "{a}_{b}_{c}", "axes": {"a": ("x",), "b": ("y",), "c": ("z",)}}
    labels = CellsOptions.model_validate(options).labels_of("channel_tuned_8")
    assert labels == {"a": "channel", "b": "tuned", "c": "8"}
