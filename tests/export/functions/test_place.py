"""A fully quantized transformer on its way through export, lowering and parity."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export.lower import lower
from export.onnx_export import ExportNotes, export_qdq
from export.parity.check import check_parity
from export.settings import ExportSettings
from export.targets import TARGETS
from quant.calibrate import CalibratedGraph
from quant.encoding import Encoding, freeze
from quant.errors import Unsupported
from quant.recipe import Recipe, load_recipe
from tests.export.small_models import Served, calibrated_of, images_of, run, tiny_vit


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Served, ExportNotes]:
    images = images_of(16, 3, 32, 32)
    graph, calibrated = calibrated_of(tiny_vit(), images, load_recipe("fq_vit_attn4"))
    path = tmp_path_factory.mktemp("fq") / "qdq.onnx"
    notes = export_qdq(calibrated, images[:2], path, ExportSettings(), {})
    return Served(images, graph, calibrated, path), notes


def calls(path: Path) -> list[str]:
    return sorted(node.op_type for node in onnx.load(path).graph.node if node.domain == "octavo")


def test_functions_stand_for_layer_norm_softmax_and_the_stream(vit: tuple[Served, ExportNotes]) -> None:
    served, notes = vit
    model = onnx.load(served.qdq)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"LayerNormalization", "Softmax"}
    assert calls(served.qdq) == [
        *["ChannelQuantizeDequantize"] * 5,  # the stream in front of three LayerNorms, and two branches
        *["IntegerLayerNorm"] * 3,
        "LogIntSoftmax",
        "ShiftMatMul",
    ]
    assert {f.name for f in model.functions} == set(calls(served.qdq))
    assert notes.simplify is not None
    assert notes.simplify.used, notes.simplify.reason


@pytest.mark.parametrize("optimized", [False, True])
def test_onnx_runtime_computes_the_fake_quant_model(vit: tuple[Served, ExportNotes], optimized: bool) -> None:
    """Integers are equal; what is left is float32 rounding in the float GELU and sums."""
    served, _ = vit
    freeze(served.calibrated, Encoding())
    with torch.no_grad():
        expected = served.calibrated.graph(served.images).double().numpy()
    assert np.abs(run(served.qdq, served.images, optimized) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["ort-x86", "ort-arm64"])
def test_lowered_and_in_parity(vit: tuple[Served, ExportNotes], name: str, tmp_path: Path) -> None:
    served, _ = vit
    target, path = TARGETS[name], tmp_path / "lowered.onnx"
    report = lower(served.qdq, served.calibrated, target, path, {})
    parity = check_parity(
        served.calibrated, report, served.graph, path, target, served.images, ExportSettings(parity_images=8)
    )
    assert parity.failure is None
    assert calls(path) == calls(served.qdq)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt8"])
def test_tensorrt_is_refused_with_the_reason(
    name: str, vit: tuple[Served, ExportNotes], tmp_path: Path
) -> None:
    served, _ = vit
    with pytest.raises(Unsupported, match=rf"{name} cannot take 'blocks.0.norm1'.*simulated"):
        lower(served.qdq, served.calibrated, TARGETS[name], tmp_path / "m.onnx", {})
    assert not list(tmp_path.iterdir())


def test_the_plain_graph_is_float_until_it_quantizes() -> None:
    """What prepares the graph is exact; only biases are corrected for the quantized model alone."""
    recipe, images = load_recipe("fq_vit_attn4"), images_of(16, 3, 32, 32)
    exact = tuple(method for method in recipe.methods if method.name != "bias_correction")
    graph, calibrated = calibrated_of(tiny_vit(), images, recipe.model_copy(update={"methods": exact}))
    for site in calibrated.sites:
        site.quantizer.off()
    with torch.no_grad():
        assert torch.allclose(calibrated.graph(images), graph(images), rtol=1e-4, atol=1e-5)


def without(recipe: Recipe, *roles: str) -> Recipe:
    settings = recipe.model_dump()
    settings["roles"] = {role: spec for role, spec in settings["roles"].items() if role not in roles}
    return Recipe.model_validate(settings)


@pytest.mark.parametrize(
    ("missing", "method", "left"),
    [
        ("softmax.input", "log_int_softmax", ["LogIntSoftmax", "ShiftMatMul"]),
        ("attention_pv.input", "log_int_softmax", ["ShiftMatMul"]),
        ("layer_norm.input", "integer_layer_norm", ["IntegerLayerNorm"]),
    ],
)
def test_what_is_not_quantized_stays_float_and_is_noted(
    missing: str,
    method: str,
    left: list[str],
    tmp_path: Path,
    serve_with: Callable[[Recipe], CalibratedGraph],
) -> None:
    calibrated = serve_with(without(load_recipe("fq_vit_attn4"), missing))
    refused = [note for note in calibrated.notes if note.method == method and not note.applied]
    assert refused
    assert all(note.text for note in refused)
    path = tmp_path / "qdq.onnx"
    export_qdq(calibrated, images_of(2, 3, 32, 32), path, ExportSettings(), {})
    assert not set(calls(path)) & set(left)
    assert set(calls(path)) | set(left) | {"ChannelQuantizeDequantize"} == {
        "ChannelQuantizeDequantize",
        "IntegerLayerNorm",
        "LogIntSoftmax",
        "ShiftMatMul",
    }


def test_powers_of_two_behind_a_float_softmax(tmp_path: Path) -> None:
    """Exported, in parity on ONNX Runtime, and refused for TensorRT."""
    settings = load_recipe("int8").model_dump()
    settings["specs"]["log2"] = {"bits": 4, "scheme": "log2"}
    settings["roles"]["softmax.output"] = "log2"
    images = images_of(8, 3, 32, 32)
    graph, calibrated = calibrated_of(tiny_vit(), images, Recipe.model_validate(settings))
    qdq, path = tmp_path / "qdq.onnx", tmp_path / "lowered.onnx"
    export_qdq(calibrated, images[:2], qdq, ExportSettings(), {})
    target = TARGETS["ort-x86"]
    report = lower(qdq, calibrated, target, path, {})
    parity = check_parity(calibrated, report, graph, path, target, images, ExportSettings(parity_images=8))
    assert parity.failure is None
    assert calls(path) == ["Log2QuantizeDequantize"]
    assert "Attention" not in {node.op_type for node in onnx.load(path).graph.node}
    with pytest.raises(Unsupported, match=r"tensorrt cannot take 'blocks\.0\.attn\.pv\.a'.*powers of two"):
        lower(qdq, calibrated, TARGETS["tensorrt"], tmp_path / "m.onnx", {})


@pytest.fixture(scope="module")
def serve_with() -> Callable[[Recipe], CalibratedGraph]:
    images: Any = images_of(8, 3, 32, 32)
    return lambda recipe: calibrated_of(tiny_vit(), images, recipe)[1]
