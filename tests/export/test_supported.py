"""What has no form, or what a target does not take, is refused by name and before anything is written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from export.lower import lower
from export.onnx_export import export_qdq
from export.settings import ExportSettings
from export.targets import get_target
from quant.errors import Unsupported
from quant.recipe import Recipe
from tests.export.small_models import (
    FP8,
    Perceptron,
    calibrated_of,
    images_of,
    simple_recipe,
    small_cnn,
    weight_recipe,
)

GROUP: dict[str, Any] = {"bits": 4, "granularity": "per_group", "group_size": 64}


def lowered(model: nn.Module, shape: tuple[int, ...], recipe: Recipe, folder: Path, target: str) -> Path:
    images = images_of(8, *shape)
    _, calibrated = calibrated_of(model, images, recipe)
    export_qdq(calibrated, images[:2], folder / "qdq.onnx", ExportSettings(), {})
    lower(folder / "qdq.onnx", calibrated, get_target(target), folder / "m.onnx", {})
    return folder / "m.onnx"


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (
            weight_recipe(**GROUP | {"group_size": 16}),
            "need group_size 64 or 128, this one has group_size 16",
        ),
        (weight_recipe(bits=4), "need group_size 64 or 128, this one has one scale per channel"),
        (weight_recipe(**GROUP, symmetric=False, narrow=False), "its zero point is not 0"),
        (weight_recipe(**GROUP | {"bits": 8}), "groups are taken for 4-bit weights only"),
        (weight_recipe({}, **GROUP), "4-bit weights in groups are weight-only"),
        (weight_recipe(FP8, bits=8), "FP8 needs both factors"),
    ],
)
def test_tensorrt_names_what_it_does_not_take(recipe: Recipe, reason: str, tmp_path: Path) -> None:
    recipe = recipe.model_copy(update={"include": ("fc1",)})
    with pytest.raises(Unsupported, match=rf"tensorrt cannot take 'fc1\.weight': .*{reason}"):
        lowered(Perceptron(), (5, 64), recipe, tmp_path, "tensorrt")
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("recipe", "site", "reason"),
    [
        (
            weight_recipe(FP8, bits=8),
            "fc1.input",
            "FP8 came with opset 19, it reads up to 17",
        ),
        (weight_recipe(bits=4), "fc1.weight", "4-bit codes came with opset 21"),
        (weight_recipe(**GROUP | {"bits": 8}), "fc1.weight", "a scale per group came with opset 21"),
        (weight_recipe(bits=8, symmetric=False, narrow=False), "fc1.weight", "its zero point is not 0"),
    ],
)
def test_tensorrt8_names_what_it_does_not_take(
    recipe: Recipe, site: str, reason: str, tmp_path: Path
) -> None:
    recipe = recipe.model_copy(update={"include": ("fc1",)})
    with pytest.raises(Unsupported, match=rf"tensorrt8 cannot take '{site}': {reason}"):
        lowered(Perceptron(), (5, 64), recipe, tmp_path, "tensorrt8")
    assert not (tmp_path / "m.onnx").exists()


def test_tensorrt8_takes_narrow_codes_in_bytes(tmp_path: Path) -> None:
    recipe = simple_recipe(weight={"bits": 4}).model_copy(update={"include": ("fc1",)})
    assert lowered(Perceptron(), (5, 64), recipe, tmp_path, "tensorrt8").exists()


def test_tensorrt_takes_blocks_of_64(tmp_path: Path) -> None:
    recipe = weight_recipe(**GROUP).model_copy(update={"include": ("fc1",)})
    assert lowered(Perceptron(), (5, 64), recipe, tmp_path, "tensorrt").exists()


def test_groups_of_a_convolution_have_no_form(tmp_path: Path) -> None:
    recipe = simple_recipe(weight={"granularity": "per_group", "group_size": 1})
    with pytest.raises(Unsupported, match=r"'stem\.weight': groups are exported for linear layers only"):
        lowered(small_cnn(), (3, 16, 16), recipe, tmp_path, "ort-x86")
    assert not list(tmp_path.iterdir())


def test_codes_beyond_8_bits_are_refused_instead_of_wrapped(tmp_path: Path) -> None:
    images = images_of(8, 5, 64)
    recipe = simple_recipe(roles={})
    _, calibrated = calibrated_of(Perceptron(), images, recipe)
    site = calibrated.weight_sites()[0]
    site.quantizer.freeze()
    grid = site.quantizer.qparams
    site.quantizer.fix_grid(replace(grid, scale=grid.scale / 8, qmin=-1016, qmax=1016))
    with pytest.raises(Unsupported, match=rf"'{site.name}': codes up to 1016 need more than 8 bits"):
        export_qdq(calibrated, images[:2], tmp_path / "qdq.onnx", ExportSettings(), {})
    assert not list(tmp_path.iterdir())
