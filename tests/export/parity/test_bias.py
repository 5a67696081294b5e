"""Rounding a bias to int32: how far results move is counted, not guessed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.lower import lower
from export.onnx_export import export_qdq
from export.parity import check_parity
from export.parity.bias import bias_rounding, moved_by_bias
from export.settings import ExportSettings
from export.targets import get_target
from quant.graph import capture
from quant.kernels import fake_quantize, quantize_codes
from quant.qparams import QParams
from tests.export.small_models import calibrated_of, images_of, run, simple_recipe, small_cnn

CODES = QParams(torch.tensor(0.5), torch.tensor(0, dtype=torch.int32), -8, 7)


def weights_with(*scale: float) -> QParams:
    axis = 0 if len(scale) > 1 else None
    steps = torch.tensor(scale if len(scale) > 1 else scale[0])
    return QParams(steps, torch.zeros_like(steps, dtype=torch.int32), -7, 7, axis=axis)


def layer_of(kind: str, bias: list[float] | None) -> tuple[torch.fx.GraphModule, torch.fx.Node]:
    channels = 2
    layer: nn.Module = nn.Linear(3, channels, bias is not None)
    x = torch.ones(2, 3)
    if kind == "conv":
        layer, x = nn.Conv2d(3, channels, 1, bias=bias is not None), torch.ones(2, 3, 4, 4)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    graph = capture(nn.Sequential(layer).eval(), x, True)
    (node,) = (n for n in graph.graph.nodes if n.op == "call_function" and "weight" in str(n.args))
    return graph, node


@pytest.mark.parametrize(("kind", "shape"), [("linear", (2,)), ("conv", (2, 1, 1))])
@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        # Multiples of 0.5 · 0.2 = 0.1: 0.34 becomes 0.3, -0.27 becomes -0.3.
        ((0.2,), [-0.04, -0.03]),
        # The second channel counts in 0.5 · 0.02 = 0.01, of which -0.27 is a multiple.
        ((0.2, 0.02), [-0.04, 0.0]),
    ],
)
def test_the_change_is_to_the_nearest_multiple(
    kind: str, shape: tuple[int, ...], scale: tuple[float, ...], expected: list[float]
) -> None:
    graph, layer = layer_of(kind, [0.34, -0.27])
    change = bias_rounding(graph, layer, CODES, weights_with(*scale))
    assert change is not None
    assert change.shape == shape
    assert change.flatten().tolist() == pytest.approx(expected, abs=1e-7)


def test_what_no_integer_kernel_takes_has_no_change() -> None:
    graph, layer = layer_of("linear", [0.34, -0.27])
    weight = weights_with(0.2)
    several = replace(CODES, scale=torch.ones(3), zero_point=torch.zeros(3, dtype=torch.int32), axis=1)
    assert bias_rounding(graph, layer, None, weight) is None
    assert bias_rounding(graph, layer, several, weight) is None
    assert bias_rounding(graph, layer, replace(CODES, scheme="fp8_e4m3"), weight) is None
    assert bias_rounding(*layer_of("linear", None), CODES, weight) is None


def test_moves_are_counted_behind_the_quantizer() -> None:
    # 0.2 carries 0.1 and 0.24 over the edge at 0.25, -0.3 over that at -0.25, and 0.6 nowhere.
    raw = torch.tensor([[0.1, 0.24], [-0.3, 0.6]])
    change = torch.tensor([0.2, 0.1])

    def rounded(x: Tensor) -> Tensor:
        return fake_quantize(x, CODES)

    assert moved_by_bias(change, raw, rounded, 0.5, 0.1) == (0.75, 0)
    # Nothing rounds them: the change itself counts, 0.4 and 0.2 steps, and both are more than 0.1.
    assert moved_by_bias(change, raw, lambda x: x, 0.5, 0.1) == (1.0, 0)
    assert moved_by_bias(change, raw, lambda x: x, 0.08, 1.5) == (0.5, 2)


def qlinear_conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, out: float) -> onnx.ModelProto:
    constants = {
        "x_scale": np.float32(0.5),
        "zero": np.int8(0),
        "w": weight,
        "w_scale": np.float32(0.2),
        "y_scale": np.float32(out),
        "b": bias,
    }
    node = helper.make_node(
        "QLinearConv", ["x", "x_scale", "zero", "w", "w_scale", "zero", "y_scale", "zero", "b"], ["y"]
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT8, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [x.shape[0], len(weight), *x.shape[2:]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_as_many_codes_flip_as_in_the_integer_kernel() -> None:
    """Against ONNX's QLinearConv by its reference implementation: the same share, to the last code."""
    generator = np.random.default_rng(0)
    codes = generator.integers(-8, 8, (4, 3, 6, 6)).astype(np.int8)
    weight = generator.integers(-7, 8, (2, 3, 1, 1)).astype(np.int8)
    graph, layer = layer_of("conv", [0.34, -0.27])
    output = QParams(torch.tensor(0.73), torch.tensor(0, dtype=torch.int32), -8, 7)
    change = bias_rounding(graph, layer, CODES, weights_with(0.2))
    assert change is not None
    x, w = torch.from_numpy(codes) * 0.5, torch.from_numpy(weight).float() * 0.2
    raw = torch.conv2d(x, w, torch.tensor([0.34, -0.27]))
    share, _ = moved_by_bias(change, raw, lambda y: fake_quantize(y, output), 0.73, 0.1)
    session = onnx.reference.ReferenceEvaluator(
        qlinear_conv(codes, weight, np.rint(np.array([0.34, -0.27]) / 0.1).astype(np.int32), 0.73)
    )
    integers = np.clip(np.asarray(session.run(["y"], {"x": codes}))[0], -8, 7)
    floats = quantize_codes(raw, output).numpy()
    assert share == (integers != floats).mean() > 0


@pytest.mark.parametrize("weight", ["per_tensor", "per_channel"])
def test_four_bits_pass_where_int32_biases_flip_more_than_the_usual_share(
    weight: str, tmp_path: Path
) -> None:
    model, images = small_cnn(), images_of(16, 3, 16, 16)
    recipe = simple_recipe(activation={"bits": 4}, weight={"bits": 4, "granularity": weight})
    graph, calibrated = calibrated_of(model, images, recipe)
    export_qdq(calibrated, images[:2], tmp_path / "qdq.onnx", ExportSettings(), {})
    target = get_target("ort-x86")
    report = lower(tmp_path / "qdq.onnx", calibrated, target, tmp_path / "model.onnx", {}, "auto")
    found = check_parity(
        calibrated, report, graph, tmp_path / "model.onnx", target, images, ExportSettings(parity="warn")
    )
    assert found.failure is None
    flipped = max(layer.output_differ for layer in found.layers if layer.mode == "all")
    assert flipped > 1e-3, "the integer kernel rounds these biases as finely as floats: nothing is tested"
    assert np.isfinite(run(tmp_path / "model.onnx", images, optimized=True)).all()
