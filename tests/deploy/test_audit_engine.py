"""The integer coverage of a TensorRT engine, from what its inspector says.

The layers here are written in the forms of TensorRT 8, 10 and 11 for the nodes of a real lowered file.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deploy.audit.engine import audit_engine, engine_layers
from deploy.audit.macs import Kind
from export.lower import lower
from export.onnx_export import export_qdq
from export.settings import ExportSettings
from export.targets import get_target
from quant.errors import BadInput
from quant.recipe import load_recipe
from tests.export.small_models import calibrated_of, images_of, tiny_vit
from tests.octavo.project import call, check_refused

INT8, HALF = "sm80_xmma_gemm_i8i8_i8i32_f32_tn_n_tilesize64x64x64", "sm80_xmma_gemm_f16f16_f16f16_f16_nn"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    images = images_of(8, 3, 32, 32)
    _, calibrated = calibrated_of(tiny_vit(), images, load_recipe("int8"))
    export_qdq(calibrated, images[:2], folder / "qdq.onnx", ExportSettings(), {})
    lower(folder / "qdq.onnx", calibrated, get_target("tensorrt"), folder / "model.onnx", {})
    return folder / "model.onnx"


def products(model: Path) -> list[str]:
    return [n.name for n in onnx.load(model).graph.node if n.op_type in ("MatMul", "Gemm", "Conv")]


def is_attention(name: str) -> bool:
    return name.startswith("blocks.0.attn/")


def layers_of(model: Path, floats: tuple[str, ...] = (), version: int = 10) -> dict[str, Any]:
    """Every product in a layer of its own, in INT8 but the attention and ``floats``."""
    layers: list[dict[str, Any]] = [
        {"Name": "Reformatting CopyNode for Input 0", "LayerType": "Reformat", "TacticName": "copy"}
    ]
    for name in products(model):
        floating = name in floats or is_attention(name)
        kind = "Half" if floating else "Int8"
        told: dict[str, Any] = {"LayerType": "gemm", "TacticName": HALF if floating else INT8}
        if version == 8:
            told["Name"] = f"{name} + {name}_bias"
            told["Inputs"] = [{"Format/Datatype": f"Row major linear {kind} format"}]
        else:
            told["Name"] = f"{name}_myl0_1"
            told["Metadata"] = f"[ONNX Layer: {name}]\x1f[ONNX Layer: {name}_bias]"
            told["Inputs"] = [
                {"Format/Datatype": kind} if version == 10 else {"DataType": kind, "Format": "row"}
            ]
        layers.append(told)
    return {"Layers": layers, "Bindings": ["input", "output"]}


@pytest.mark.parametrize("version", [8, 10, 11])
def test_the_coverage_is_that_of_the_kernels(version: int, model: Path) -> None:
    report = audit_engine(model, layers_of(model, version=version), f"TensorRT {version}")
    assert report.weight_share == 1.0
    assert report.macs(Kind.ACTIVATION, integer=True) == 0
    attention = report.macs(Kind.ACTIVATION)
    # 3 heads, 17 tokens, 16 channels, two products
    assert attention == 2 * 3 * 17 * 17 * 16
    assert report.total_share == pytest.approx(1 - attention / report.macs())
    assert not report.unfused
    assert {m.module for m in report.left_float} == {"blocks.0.attn"}
    assert any("'Reformatting CopyNode for Input 0'" in note for note in report.notes)


def test_a_group_that_stayed_float_is_named_with_its_kernel(model: Path) -> None:
    (fc2,) = [name for name in products(model) if "fc2" in name]
    report = audit_engine(model, layers_of(model, (fc2,)), "TensorRT 10")
    (found,) = report.unfused
    assert found.module == "blocks.0.mlp.fc2"
    assert found.op == f"{fc2}_myl0_1"
    assert found.macs == 17 * 192 * 48
    (finding,) = found.findings
    assert finding.rule == "float-kernel"
    assert HALF in finding.reason
    assert "together with 1 other nodes" in finding.reason
    assert report.weight_share == pytest.approx(1 - 17 * 192 * 48 / report.macs(Kind.LINEAR, Kind.CONV))


def test_a_product_that_no_layer_names_is_no_integer(model: Path) -> None:
    information = layers_of(model)
    (fc2,) = [name for name in products(model) if "fc2" in name]
    information["Layers"] = [layer for layer in information["Layers"] if not layer["Name"].startswith(fc2)]
    (found,) = audit_engine(model, information, "TensorRT 10").unfused
    assert [finding.rule for finding in found.findings] == ["not-in-engine"]


def rewired(model: Path, folder: Path, operand: int) -> tuple[Path, str]:
    """The same model, with one factor of fc2 taken past its DequantizeLinear: float there."""
    changed = onnx.load(model)
    writers = {name: node for node in changed.graph.node for name in node.output}
    (fc2,) = [n for n in changed.graph.node if n.op_type == "MatMul" and "fc2" in n.name]
    pair = writers[fc2.input[operand]]
    if operand == 0:
        fc2.input[0] = writers[pair.input[0]].input[0]
    else:
        floats = onnx.numpy_helper.from_array(np.zeros((192, 48), np.float16), "floats")
        changed.graph.initializer.append(floats)
        fc2.input[1] = floats.name
    onnx.save(changed, folder / "rewired.onnx")
    return folder / "rewired.onnx", str(fc2.name)


def test_a_weight_quantized_alone_is_no_fault_and_an_activation_quantized_alone_is(
    model: Path, tmp_path: Path
) -> None:
    path, fc2 = rewired(model, tmp_path, 0)
    report = audit_engine(path, layers_of(path, (fc2,)), "TensorRT 10")
    assert not report.unfused
    (alone,) = report.weight_only
    assert alone.module == "blocks.0.mlp.fc2"
    path, fc2 = rewired(model, tmp_path, 1)
    (found,) = audit_engine(path, layers_of(path, (fc2,)), "TensorRT 10").unfused
    assert [finding.rule for finding in found.findings] == ["one-factor"]


@pytest.mark.parametrize(
    ("kernel", "inputs", "eight"),
    [
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8f32_i8i32_f32_nchw", ["Half"], True),
        ("sm89_xmma_gemm_e4m3e4m3_e4m3f32_f32_tn", ["FP8"], True),
        ("_gemm_mha_v2", ["Half"], False),
        ("_gemm_mha_v2", ["Int8"], True),
        (HALF, ["Int8"], False),
        ("", ["Int8", "Half"], True),
        ("", ["Half", "Int8"], False),
        ("0x0000000000000000", ["Int8"], True),
    ],
)
def test_kernels_are_told_by_name_else_by_what_they_read(kernel: str, inputs: list[str], eight: bool) -> None:
    tensors = [{"DataType": kind} for kind in inputs]
    (layer,) = engine_layers({"Layers": [{"Name": "l", "TacticName": kernel, "Inputs": tensors}]})
    assert layer.eight_bits is eight


def test_what_is_no_information_or_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps({"Layers": ["fc1", "fc2"]}))
    check_refused(call("audit", model, "--engine", tmp_path / "names.json"), "profiling verbosity DETAILED")
    (tmp_path / "empty.json").write_text("{}")
    check_refused(call("audit", model, "--engine", tmp_path / "empty.json"), "has no 'Layers'")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    check_refused(
        call("audit", model, "--engine", tmp_path / "deep.json"), "is neither an engine.plan nor JSON"
    )
    (tmp_path / "odd.json").write_text(json.dumps({"Layers": [{"Name": 3, "Inputs": 5, "Metadata": None}]}))
    check_refused(call("audit", model, "--engine", tmp_path / "odd.json"), "built of another model")
    with pytest.raises(BadInput, match="built of another model"):
        audit_engine(model, {"Layers": [{"Name": "stem"}]}, "TensorRT")


def test_the_command_line_reads_exported_layers(model: Path, tmp_path: Path) -> None:
    (tmp_path / "layers.json").write_text(json.dumps(layers_of(model)))
    result = call("audit", model, "--engine", tmp_path / "layers.json", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["weight_share"] == 1.0
    shown = call("audit", model, "--engine", tmp_path / "layers.json")
    assert "on tensorrt, TensorRT" in " ".join(shown.stdout.split())
    assert "Integer kernels do 100.0%" in shown.stdout
