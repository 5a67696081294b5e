"""The recipes of the FQ-ViT workload, and the runs it is made of."""

from itertools import product
from pathlib import Path

import pytest
import torch

from benchmarks.analyses.observer_settings import setting_of
from deploy.pipeline.config import RunConfig, config_of, load_config
from deploy.pipeline.suite import suite_of
from quant.kernels import fake_quantize
from quant.qparams import qparams_from_range
from quant.recipe import Recipe, load_recipe, load_recipes

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
OBSERVERS = ("minmax", "percentile", "omse", "kl")
SOFTMAX = {
    "uniform8": "uniform, 8 bits",
    "uniform4": "uniform, 4 bits",
    "log2_4": "log2, 4 bits",
    "lis4": "log-int, 4 bits",
}


def recipes_of(name: str) -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in load_recipes(EXAMPLES / "fq_vit" / f"{name}.yaml")}


@pytest.fixture(scope="module")
def runs() -> dict[str, RunConfig]:
    path = EXAMPLES / "fq_vit.yaml"
    return {name: config_of(part, path) for name, part in suite_of(path).items()}


def test_the_grid_has_every_observer_at_every_granularity() -> None:
    grid = recipes_of("grid")
    assert set(grid) == {f"{o}_{g}" for o, g in product(OBSERVERS, ("layer", "channel"))}
    for name, recipe in grid.items():
        observer, _, granularity = name.partition("_")
        setting = setting_of(recipe)
        assert setting.fully_quantized
        assert recipe.specs["stream"].observer == recipe.specs["activation"].observer == observer
        assert (setting.weights, setting.stream) == (granularity, granularity)
        assert (setting.softmax, setting.layer_norm) == ("uniform, 8 bits", "float")
    options = {name: grid[f"{name}_layer"].specs["activation"].observer_options for name in OBSERVERS}
    assert (options["percentile"], options["kl"]) == ({"alpha": 0.9999}, {"bins": 2048})


def test_the_steps_differ_in_the_softmax_alone() -> None:
    steps = recipes_of("steps")
    settings = {name.removeprefix("ptf_"): setting_of(recipe) for name, recipe in steps.items()}
    assert {name: setting.softmax for name, setting in settings.items()} == SOFTMAX
    assert {(s.stream, s.layer_norm, s.weights) for s in settings.values()} == {
        ("powers of two", "integer", "channel")
    }
    assert {recipe.specs["stream"].observer_options["largest"] for recipe in steps.values()} == {3}


def test_every_tensor_that_fq_vit_rounds_has_a_format() -> None:
    """What FQ-ViT calls fully quantized, so that a grid without it would flatter every observer."""
    shipped = set(load_recipe("fq_vit").roles)
    assert set(load_recipe(EXAMPLES / "fq_vit" / "fully_quantized.yaml").roles) == shipped | {
        "softmax.output"
    }


def test_the_runs_hold_what_the_readme_promises(runs: dict[str, RunConfig]) -> None:
    ablation, full, deploy = runs["ablation"], runs["full"], runs["deploy"]
    names = [recipe.name for entry in ablation.recipe for recipe in load_recipes(entry)]
    assert len(names) == len(set(names)) == 16
    assert {"fq_vit", "fq_vit_attn4", "int8", "int8_log2"} < set(names)
    assert (ablation.targets, deploy.targets) == (("ort-x86",), ("ort-x86", "tensorrt"))
    assert deploy.profile is not None
    assert set(deploy.profile.sensitivity) == {"fisher", "hessian"}
    assert all(getattr(config.calibration, "limit", None) is None for config in (full, deploy))
    assert all(
        "observers" in {entry.name for entry in config.analyses} for config in (ablation, full, deploy)
    )


def test_what_is_deployed_has_no_simulated_operator(runs: dict[str, RunConfig]) -> None:
    for name in runs["deploy"].recipe:
        assert not setting_of(load_recipe(name)).fully_quantized
        assert setting_of(load_recipe(name)).layer_norm == "float"


def test_vit_base_has_the_same_recipes(runs: dict[str, RunConfig]) -> None:
    base = load_config(EXAMPLES / "fq_vit_base.yaml")
    assert base.recipe == runs["ablation"].recipe
    assert base.model.pretrained


def test_four_bits_of_log2_keep_attention_weights_that_uniform_codes_lose() -> None:
    """Of 197 nearly equal weights all are below half of 1/15, so uniform codes round them to nothing."""
    scores = 0.3 * torch.randn(4, 197, generator=torch.Generator().manual_seed(0))
    weights = torch.softmax(scores, -1)
    steps = recipes_of("steps")
    found = {
        name: fake_quantize(weights, qparams_from_range(torch.tensor(0.0), torch.tensor(1.0), spec))
        for name in ("ptf_uniform4", "ptf_log2_4")
        if (spec := steps[name].specs["softmax"])
    }
    assert not found["ptf_uniform4"].any()
    ratio = found["ptf_log2_4"] / weights
    assert float(ratio.min()) * (1 + 1e-6) >= 2**-0.5  # half a step of the exponent
    assert float(ratio.max()) <= 2**0.5 * (1 + 1e-6)
