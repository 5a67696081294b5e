"""TensorRT 8.5 and 8.6, stood for by a module that has their names and no others."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.tensorrt.build import EngineSettings, build_plan, check_file
from deploy.tensorrt.library import Library
from quant.errors import BadInput, Unsupported
from tests.deploy.tensorrt.fake_trt8 import tensorrt8


def quantized(
    path: Path,
    opset: int = 17,
    float_weight: bool = True,
    kind: int = TensorProto.INT8,
    zero_point: bool = True,
) -> Path:
    """A product of quantized factors, called ``fc``."""
    weight = np.random.default_rng(0).integers(-127, 128, (32, 16))
    pair = ["s", "z"] if zero_point else ["s"]
    scales, axis = ["ws", "wz"], {"axis": 1}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *pair], ["q"], name="fc/QuantizeLinear"),
        helper.make_node("DequantizeLinear", ["q", *pair], ["d"], name="fc/DequantizeLinear"),
        helper.make_node(
            "QuantizeLinear", ["w", *scales], ["c"], name="fc/DequantizeLinear_2_Quantize", **axis
        ),
        helper.make_node("DequantizeLinear", ["c", *scales], ["v"], name="fc/DequantizeLinear_2", **axis),
        helper.make_node("MatMul", ["d", "v"], ["y"], name="fc/MatMul"),
    ]
    constants = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.02]),
        helper.make_tensor("z", kind, [], [0]),
        numpy_helper.from_array(np.full(16, 0.01, np.float32), "ws"),
        numpy_helper.from_array(np.zeros(16, np.int8), "wz"),
    ]
    if float_weight:
        constants.append(numpy_helper.from_array((weight * 0.01).astype(np.float32), "w"))
    else:
        del nodes[2]
        constants.append(numpy_helper.from_array(weight.astype(np.int8), "c"))
    return saved(path, nodes, constants, opset)


def saved(
    path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], opset: int, width: int = 16
) -> Path:
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, width])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def normalized(path: Path) -> Path:
    node = helper.make_node("LayerNormalization", ["x", "g"], ["y"], name="blocks.0.norm1/LayerNormalization")
    return saved(path, [node], [numpy_helper.from_array(np.ones(32, np.float32), "g")], 17, 32)


@pytest.mark.parametrize("version", ["8.5.2.2", "8.6.1.6"])
def test_precision_is_told_by_flags(version: str, tmp_path: Path, linear: Path) -> None:
    library, seen = tensorrt8(version)
    path = quantized(tmp_path / "m.onnx")
    check_file(path)
    assert build_plan(path, EngineSettings(workspace_mib=64), library) == (b"plan", b"timings")
    assert seen.network_flags == 1, "1 << EXPLICIT_BATCH"
    assert seen.config.flags == ("FP16", "INT8")
    assert seen.config.pools == (("WORKSPACE", 64 << 20),)
    model = onnx.load(linear)
    model.opset_import[0].version = 17
    onnx.save(model, linear)
    build_plan(linear, EngineSettings(), library)
    assert seen.config.flags == ("FP16",), "nothing is quantized"


def test_a_library_with_strong_typing_gets_no_precision_flags(tmp_path: Path, rtx: Library) -> None:
    assert build_plan(quantized(tmp_path / "m.onnx"), EngineSettings(), rtx)[0]


def test_files_of_other_targets_are_refused_before_they_are_parsed(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    library, seen = tensorrt8("8.6.1.6")
    remedy = "; build the `tensorrt8` lowering: add tensorrt8 to `targets`"

    def refusal() -> str:
        with pytest.raises(Unsupported) as raised:
            build_plan(path, EngineSettings(), library)
        assert "\n" not in str(raised.value)
        assert str(raised.value).endswith(remedy)
        return str(raised.value)

    quantized(path, opset=20)
    assert "TensorRT 8.6.1.6: the file has opset 20, it reads up to 17" in refusal()
    quantized(path, float_weight=False)
    assert "'fc' has its weight in int8 codes" in refusal()
    quantized(path, kind=TensorProto.FLOAT8E4M3FN, opset=19)
    assert "'fc' has FP8" in refusal()
    quantized(path, kind=TensorProto.INT4, opset=21)
    assert "'fc' has 4-bit codes" in refusal()
    half = numpy_helper.from_array(np.ones((32, 16), np.float16), "w")
    product = helper.make_node("MatMul", ["h", "w"], ["p"], name="head/MatMul")
    casts = [helper.make_node("Cast", [a], [b], to=t) for a, b, t in (("x", "h", 10), ("p", "y", 1))]
    saved(path, [casts[0], product, casts[1]], [half], 17)
    assert "'head' has constants in float16" in refusal()
    assert seen.parsed == []
    assert seen.network_flags is None


def test_a_pair_without_a_zero_point_is_refused(tmp_path: Path) -> None:
    path = quantized(tmp_path / "m.onnx", zero_point=False)
    with pytest.raises(Unsupported, match="'fc' has a QuantizeLinear without a zero point"):
        build_plan(path, EngineSettings(), tensorrt8("8.6.1.6")[0])


def test_layer_normalization_needs_8_6(tmp_path: Path) -> None:
    path = normalized(tmp_path / "m.onnx")
    assert build_plan(path, EngineSettings(), tensorrt8("8.6.1.6")[0])[0] == b"plan"
    library, seen = tensorrt8("8.5.2.2")
    said = r"8\.5\.2\.2 does not take 'blocks\.0\.norm1': LayerNormalization is known from TensorRT 8\.6"
    with pytest.raises(Unsupported, match=said):
        build_plan(path, EngineSettings(), library)
    assert seen.parsed == []


@pytest.mark.parametrize(
    ("version", "settings", "name"),
    [
        ("8.5.2.2", EngineSettings(optimization_level=5), "optimization_level"),
        ("8.5.2.2", EngineSettings(version_compatible=True), "version_compatible"),
        ("8.5.2.2", EngineSettings(hardware_compatible=True), "hardware_compatible"),
        ("8.6.1.6", EngineSettings(weight_streaming=True), "weight_streaming"),
    ],
)
def test_settings_that_came_later_are_refused(
    version: str, settings: EngineSettings, name: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=rf"TensorRT {version} has no setting for `{name}`: leave it out"):
        build_plan(quantized(tmp_path / "m.onnx"), settings, tensorrt8(version)[0])


def test_settings_of_8_6_reach_it(tmp_path: Path) -> None:
    library, seen = tensorrt8("8.6.1.6")
    settings = EngineSettings(
        optimization_level=0, version_compatible=True, hardware_compatible=True, refit=True
    )
    build_plan(quantized(tmp_path / "m.onnx"), settings, library)
    assert seen.config.builder_optimization_level == 0
    assert seen.config.hardware_compatibility_level.name == "AMPERE_PLUS"
    assert set(seen.config.flags) == {"FP16", "INT8", "VERSION_COMPATIBLE", "REFIT"}


def test_what_the_parser_refuses_is_told_by_module(tmp_path: Path) -> None:
    """Its errors have a place in the file, no name."""
    path = quantized(tmp_path / "m.onnx")
    with pytest.raises(Unsupported, match=r"cannot read it: 'fc' \(MatMul\): No importer registered for op"):
        build_plan(path, EngineSettings(), tensorrt8("8.6.1.6", refuses="MatMul")[0])
