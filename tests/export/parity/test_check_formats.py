"""The parity check on weight-only layers and on FP8."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from export.lower import LoweringReport, lower
from export.onnx_export import export_qdq
from export.parity import ParityReport, check_parity
from export.settings import ExportSettings, WeightOnlyAccuracy
from export.targets import TARGETS, Target, get_target
from quant.errors import Unsupported
from quant.recipe import Recipe, load_recipe
from tests.export.small_models import (
    Perceptron,
    Served,
    calibrated_of,
    executed,
    images_of,
    simple_recipe,
    tiny_vit,
    weight_recipe,
)

SETTINGS = ExportSettings(parity_images=16)
X86 = get_target("ort-x86")


def perceptron(recipe: Recipe, folder: Path) -> Served:
    images = images_of(16, 5, 64)
    graph, calibrated = calibrated_of(Perceptron(), images, recipe)
    export_qdq(calibrated, images[:2], folder / "qdq.onnx", SETTINGS, {})
    return Served(images, graph, calibrated, folder / "qdq.onnx")


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Served:
    recipe = weight_recipe(bits=4, granularity="per_group", group_size=16)
    return perceptron(recipe, tmp_path_factory.mktemp("grouped"))


def lowered(
    served: Served, path: Path, target: Target = X86, accuracy: WeightOnlyAccuracy = "float"
) -> LoweringReport:
    return lower(served.qdq, served.calibrated, target, path, {}, "auto", accuracy)


def check(served: Served, path: Path, report: LoweringReport, target: Target = X86) -> ParityReport:
    return check_parity(served.calibrated, report, served.graph, path, target, served.images, SETTINGS)


def test_weight_only_layers_are_compared_one_by_one(grouped: Served, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    report = check(grouped, path, lowered(grouped, path))
    assert [layer.layer for layer in report.layers[:3]] == ["fc1", "fc2", "head"]
    assert all(layer.outputs > 0 and not layer.output_most for layer in report.layers)
    assert min(mode.parity_db for mode in report.end_to_end) > 100


def test_a_wrong_scale_of_one_group_is_found_in_its_layer(grouped: Served, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    report = lowered(grouped, path)
    model = onnx.load(path)
    tensor = next(i for i in model.graph.initializer if i.name == "fc2.weight.scale")
    scale = numpy_helper.to_array(tensor).copy()
    scale[:, 1] *= 1.5
    tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))
    onnx.save(model, path)
    with pytest.raises(Unsupported, match="first in layer 'fc2'"):
        check(grouped, path, report)


@pytest.mark.skipif(not X86.runs_here, reason="needs ONNX Runtime on x86-64")
def test_activations_rounded_behind_ones_back_are_found(grouped: Served, tmp_path: Path) -> None:
    """Written as DequantizeLinear → MatMul, ONNX Runtime makes W4A8 of it."""
    path, unpacked = tmp_path / "m.onnx", replace(X86, packed_weights=False)
    report = lowered(grouped, path, unpacked)
    with pytest.raises(Unsupported, match=r"first in layer 'fc1' \(optimizations all\)"):
        check(grouped, path, report, unpacked)


@pytest.mark.skipif(not X86.runs_here, reason="needs ONNX Runtime on x86-64")
@pytest.mark.parametrize("bits", [4, 8])
def test_activations_rounded_as_asked_pass(bits: int, tmp_path: Path) -> None:
    served = perceptron(weight_recipe(bits=bits, granularity="per_group", group_size=16), tmp_path)
    path = tmp_path / "m.onnx"
    report = check(served, path, lowered(served, path, accuracy="int8"))
    assert any(layer.output_differ > 0 for layer in report.layers)
    assert report.flip_floor_db < 60


@pytest.fixture(scope="module")
def fp8(tmp_path_factory: pytest.TempPathFactory) -> Served:
    images, path = images_of(16, 3, 32, 32), tmp_path_factory.mktemp("fp8") / "qdq.onnx"
    graph, calibrated = calibrated_of(tiny_vit(), images, load_recipe("fp8"))
    export_qdq(calibrated, images[:2], path, SETTINGS, {})
    return Served(images, graph, calibrated, path)


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.opset is None])
def test_fp8_computes_what_was_calibrated(name: str, fp8: Served, tmp_path: Path) -> None:
    path, target = tmp_path / "m.onnx", get_target(name)
    report = check(fp8, path, lowered(fp8, path, target), target)
    assert len(report.layers) >= 6
    assert all(layer.inputs > 0 for layer in report.layers)
    kinds = {i.data_type for i in onnx.load(path).graph.initializer if i.name.endswith("weight.codes")}
    assert kinds == {TensorProto.FLOAT8E4M3FN}
    if target.runs_here:
        assert "MatMulIntegerToFloat" not in executed(path, tmp_path)


def test_tensorrt_gets_fp8_pairs_with_float16_scales(fp8: Served, tmp_path: Path) -> None:
    lowered(fp8, tmp_path / "m.onnx", get_target("tensorrt"))
    graph = onnx.load(tmp_path / "m.onnx").graph
    stored = {i.name: i for i in graph.initializer}
    quantizers = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    assert len(quantizers) >= 9  # six layers' inputs, q, k, v and the attention weights, one of them shared
    for node in quantizers:
        assert stored[node.input[1]].data_type == TensorProto.FLOAT16
        assert stored[node.input[2]].data_type == TensorProto.FLOAT8E4M3FN
        assert not np.any(numpy_helper.to_array(stored[node.input[2]]).astype(np.float32))


def test_a_cnn_of_4_bits_is_compared_behind_its_relu_and_clip(tmp_path: Path) -> None:
    """Conv → Relu → Clip → QuantizeLinear: the output of the layer is what is quantized."""
    images = images_of(8, 3, 16, 16)
    recipe = simple_recipe(activation={"bits": 4}, weight={"bits": 4})
    torch.manual_seed(0)
    body = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU())
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5, bias=False))
    graph, calibrated = calibrated_of(model, images, recipe)
    export_qdq(calibrated, images[:2], tmp_path / "qdq.onnx", ExportSettings(), {})
    target = get_target("ort-x86")
    lowered = lower(tmp_path / "qdq.onnx", calibrated, target, tmp_path / "m.onnx", {})
    report = check_parity(calibrated, lowered, graph, tmp_path / "m.onnx", target, images, ExportSettings())
    assert report.failure is None


def test_a_bias_that_cancels_the_product_is_allowed_what_float16_rounds_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 32)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.copy_(-layer.weight.sum(1) + 0.01 * torch.randn(32))
    images = 1 + 0.1 * images_of(16, 3, 64)
    graph, calibrated = calibrated_of(nn.Sequential(layer), images, simple_recipe())
    export_qdq(calibrated, images[:2], tmp_path / "qdq.onnx", SETTINGS, {})
    served = Served(images, graph, calibrated, tmp_path / "qdq.onnx")
    target = get_target("tensorrt")
    report = check(served, tmp_path / "m.onnx", lowered(served, tmp_path / "m.onnx", target), target)
    (found,) = report.layers
    result = graph(images[: report.layer_images]).detach()
    step = float(result.max() - result.min()) / 255
    product = float(images[: report.layer_images].reshape(-1, 64).matmul(layer.weight.detach().T).abs().max())
    ulp = 2.0 ** (np.floor(np.log2(product)) - 10)
    assert 2 < found.limits.distance <= 2 + np.ceil(ulp / step)
    assert found.output_most > 1, "the rounding is really there"
    x86 = check(served, tmp_path / "x.onnx", lowered(served, tmp_path / "x.onnx"))
    assert {layer.limits.distance for layer in x86.layers} == {1}
