"""Units cut out of a quantized model and of the float one."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from torch import nn

from benchmarks.placement.timing import TimingSettings, time_windows
from benchmarks.placement.windows import Window, find_windows
from deploy.onnxruntime.build import SessionSettings, build_session
from export.lower import lower
from export.lower_float import lower_float
from export.onnx_export import export_float, export_qdq
from export.parity.cut import Cut
from export.settings import ExportSettings
from export.targets import get_target
from quant.mixed.groups import Group
from quant.mixed.units import find_units
from quant.models.cifar_resnet import resnet20
from quant.recipe import Recipe
from tests.export.small_models import calibrated_of, images_of, simple_recipe, tiny_vit, weight_recipe

Models = tuple[list[Group], onnx.ModelProto, onnx.ModelProto]
SETTINGS = ExportSettings()


def models_of(model: nn.Module, recipe: Recipe, folder: Path, *shape: int) -> Models:
    images = images_of(8, *shape)
    graph, calibrated = calibrated_of(model, images, recipe)
    target = get_target("ort-x86")
    export_float(graph, images[:2], folder / "plain.onnx", SETTINGS, {})
    lower_float(folder / "plain.onnx", target, folder / "float.onnx", images.numpy())
    export_qdq(calibrated, images[:2], folder / "qdq.onnx", SETTINGS, {})
    lower(folder / "qdq.onnx", calibrated, target, folder / "quantized.onnx", {})
    units = find_units(calibrated)
    return units, onnx.load(folder / "quantized.onnx"), onnx.load(folder / "float.onnx")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return models_of(tiny_vit(), simple_recipe(), tmp_path_factory.mktemp("vit"), 3, 32, 32)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return models_of(resnet20(), simple_recipe(), tmp_path_factory.mktemp("resnet"), 3, 32, 32)


def kinds(cut: Cut) -> list[str]:
    return [node.op_type for node in cut.model.graph.node]


def run(cut: Cut, value: NDArray[np.float32]) -> NDArray[np.float32]:
    (name,) = cut.inputs
    session = build_session(cut.model.SerializeToString(), SessionSettings())
    (output,) = session.run(None, {name: value})
    return np.asarray(output)


def check_same_function(window: Window, *shape: int) -> None:
    """Both forms compute the same but for quantization."""
    value = images_of(*shape, seed=3).numpy()
    plain, quantized = run(window.plain, value), run(window.quantized, value)
    assert plain.shape == quantized.shape
    signal, noise = (plain**2).sum(), ((plain - quantized) ** 2).sum()
    assert 10 * np.log10(signal / noise) > 20, "8 bits of random values, clipped at the calibrated range"


def test_every_layer_of_a_vit_has_both_forms(vit: Models) -> None:
    units, quantized, plain = vit
    windows, declined = find_windows(units, quantized, plain)
    assert not declined
    assert [window.unit for window in windows] == [unit.name for unit in units]
    by_name = {window.unit: window for window in windows}
    qkv = by_name["blocks.0.attn.qkv"]
    assert sorted(kinds(qkv.quantized)) == [
        "DequantizeLinear",
        "DequantizeLinear",
        "MatMul",
        "QuantizeLinear",
    ]
    assert kinds(qkv.plain) == ["MatMul"]
    assert kinds(by_name["head"].plain) == ["Gemm"]


def test_patches_are_the_tokens_in_both_forms(vit: Models) -> None:
    (window, *_), _ = find_windows(*vit)
    assert window.unit == "patch_embed.proj"
    assert "MatMul" in kinds(window.quantized)
    assert kinds(window.plain)[0] == "Conv"
    check_same_function(window, 1, 3, 32, 32)


def test_convolutions_that_pass_codes_on_are_cut_as_a_whole(resnet: Models) -> None:
    windows, declined = find_windows(*resnet)
    assert not declined
    first, second = windows[0], windows[1]
    assert kinds(second.plain) == ["Conv", "Relu", "Conv"]
    assert kinds(second.quantized).count("Conv") == 2
    assert kinds(second.quantized).count("QuantizeLinear") == 3  # what it reads, between, what it gives
    check_same_function(first, 1, 3, 32, 32)


def test_packed_weights_and_attention_products_are_not_up_for_choice(tmp_path: Path) -> None:
    recipe = weight_recipe(bits=4, granularity="per_group", group_size=16)
    windows, declined = find_windows(*models_of(tiny_vit(), recipe, tmp_path, 3, 32, 32))
    assert not windows
    assert {unit.unit for unit in declined} >= {"blocks.0.mlp.fc1", "head"}
    assert all("packed for MatMulNBits" in unit.reason for unit in declined)


def test_a_product_without_weights_says_so(tmp_path: Path) -> None:
    recipe = simple_recipe(roles={"attention_qk.input": "input"})
    windows, declined = find_windows(*models_of(tiny_vit(), recipe, tmp_path, 3, 32, 32))
    assert len(windows) == 6
    (unit,) = declined
    assert unit.unit.endswith("attn.qk")
    assert "no weights" in unit.reason


def test_both_forms_are_timed_on_what_they_really_read(vit: Models) -> None:
    units, quantized, plain = vit
    windows, _ = find_windows(units, quantized, plain)
    told: list[tuple[str, int, int]] = []
    settings = TimingSettings(loads=2, warmup=1, calls=4, turn=2)
    image = images_of(1, 3, 32, 32).numpy()
    session = SessionSettings(intra_op_threads=1)
    found = time_windows(windows, quantized, plain, image, settings, session, lambda *a: told.append(a))
    assert [unit.unit for unit in found] == [unit.name for unit in units]
    assert all(unit.quantized_ms > 0 and unit.plain_ms > 0 for unit in found)
    for unit in found:
        assert unit.speedup.low <= unit.speedup.value <= unit.speedup.high
        assert unit.saved_ms == pytest.approx(unit.plain_ms - unit.quantized_ms)
    assert told[-1] == ("timing layers", 6, 6)


def test_a_slower_form_is_seen_to_be_slower(vit: Models) -> None:
    units, quantized, plain = vit
    windows, _ = find_windows(units, quantized, plain)
    fc1 = next(window for window in windows if window.unit == "blocks.0.mlp.fc1")
    head = next(window for window in windows if window.unit == "head")
    crossed = Window("fc1 of 8 images against the head of 8", quantized=fc1.quantized, plain=head.plain)
    settings = TimingSettings(loads=3, warmup=2, calls=20, turn=5)
    images = images_of(64, 3, 32, 32).numpy()
    session = SessionSettings(intra_op_threads=1)
    (found,) = time_windows([crossed], quantized, plain, images, settings, session)
    # fc1 is 48 × 192 on 5 tokens each, the head 48 × 10 on one: a hundred times the work.
    assert found.speedup.high < 1.0
    assert found.saved_ms < 0
