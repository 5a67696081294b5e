"""Where Q/DQ pairs stand, how they are stored, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from export.onnx_export import export_float, export_qdq
from export.settings import ExportSettings
from quant.errors import Unsupported
from tests.export.small_models import Served, calibrated_of, images_of, run, simple_recipe, small_cnn


@pytest.fixture(params=["vit", "cnn"])
def served(request: pytest.FixtureRequest, serve: Callable[..., Served]) -> Served:
    return serve(request.param)


def test_pairs_stand_at_the_sites_and_nowhere_else(served: Served) -> None:
    graph = onnx.load(served.qdq).graph
    quantized = sorted(n.input[1] for n in graph.node if n.op_type == "QuantizeLinear")
    dequantized = {n.input[1] for n in graph.node if n.op_type == "DequantizeLinear"}
    activations = served.calibrated.activation_sites()
    assert quantized == sorted(f"{site.name}.scale" for site in activations)
    assert dequantized == {f"{site.name}.scale" for site in served.calibrated.sites}
    assert len(activations) >= 4


def test_initializers_are_named_after_the_sites_and_weights_are_int8(served: Served) -> None:
    graph = onnx.load(served.qdq).graph
    stored = {i.name: i for i in graph.initializer}
    producers = {n.output[0]: n for n in graph.node}
    for site in served.calibrated.weight_sites():
        assert stored[f"{site.name}.codes"].data_type == TensorProto.INT8
        assert stored[f"{site.name}.scale"].data_type == TensorProto.FLOAT
    for site in served.calibrated.activation_sites():
        assert stored[f"{site.name}.zero_point"].data_type == TensorProto.UINT8
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm", "Conv"):
            second = producers.get(node.input[1])
            assert node.input[1] not in stored, f"{node.name} reads a float weight"
            assert second is not None


def test_no_float_copy_of_a_quantized_weight_is_stored(served: Served) -> None:
    graph = onnx.load(served.qdq).graph
    quantized = {site.layer for site in served.calibrated.weight_sites()}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            assert tensor.name.removesuffix(".weight") not in quantized, tensor.name
    codes = sum(numpy_helper.to_array(t).size for t in graph.initializer if t.name.endswith(".codes"))
    floats = sum(numpy_helper.to_array(t).size for t in graph.initializer if t.data_type == TensorProto.FLOAT)
    assert floats < codes / 4, "only biases, norms, embeddings and scales stay float"


class Linears(nn.Module):
    """Two layers of 512 × 512 with equal scales."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(512, 512), nn.Linear(512, 512)
        self.second.weight.data = -self.first.weight.data

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(self.first(x).clamp(-1, 1))
        return y


@pytest.fixture(scope="module")
def linears(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("linears")
    images = images_of(8, 512).clamp(-1, 1)
    images[0, :2] = torch.tensor([-1.0, 1.0])
    graph, calibrated = calibrated_of(Linears(), images, simple_recipe())
    export_float(graph, images[:2], folder / "fp32.onnx", ExportSettings(), {})
    export_qdq(calibrated, images[:2], folder / "qdq.onnx", ExportSettings(), {})
    return folder / "fp32.onnx", folder / "qdq.onnx"


def test_a_quantized_linear_model_is_a_quarter_as_large(linears: tuple[Path, Path]) -> None:
    fp32, qdq = (path.stat().st_size for path in linears)
    assert qdq <= 0.27 * fp32


def test_equal_scales_of_two_layers_stay_apart(linears: tuple[Path, Path]) -> None:
    stored = {i.name: numpy_helper.to_array(i) for i in onnx.load(linears[1]).graph.initializer}
    np.testing.assert_array_equal(stored["first.weight.scale"], stored["second.weight.scale"])
    assert stored["first.input.scale"] == stored["second.input.scale"]


@pytest.mark.parametrize(
    ("changes", "site"),
    [
        ({"activation": {"scheme": "log2"}}, "fc.input"),
        ({"activation": {"granularity": "per_group", "group_size": 4}}, "fc.input"),
        ({"activation": {"granularity": "per_channel", "axis": -1}}, "fc.input"),
        ({"weight": {"granularity": "per_channel", "axis": 1}}, "fc.weight"),
        ({"weight": {"signed": False, "narrow": False}}, "fc.weight"),
        ({"weight": {"symmetric": False, "narrow": False}}, "fc.weight"),
    ],
)
def test_formats_without_a_qdq_form_are_refused_by_name(
    changes: dict[str, Any], site: str, tmp_path: Path
) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fc(x)
            return y

    images = images_of(8, 8).abs()
    _, calibrated = calibrated_of(Head(), images, simple_recipe(**changes))
    with pytest.raises(Unsupported, match=f"'{site}'"):
        export_qdq(calibrated, images[:2], tmp_path / "m.onnx", ExportSettings(), {})
    assert not list(tmp_path.iterdir())


def test_the_file_computes_the_fake_quant_model(cnn: Served) -> None:
    """Against torch: each output is a sum of codes, so float32 rounding, 1e-4 of the largest, is all."""
    model = small_cnn()
    images = cnn.images
    _, calibrated = calibrated_of(model, images, simple_recipe())
    path = cnn.qdq.with_name("minmax.onnx")
    export_qdq(calibrated, images[:2], path, ExportSettings(), {})
    with torch.no_grad():
        expected = calibrated.graph(images).double().numpy()
    assert np.abs(run(path, images) - expected).max() <= 1e-4 * np.abs(expected).max()
