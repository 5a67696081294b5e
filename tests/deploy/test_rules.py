"""Each rule is shown twice on ONNX Runtime itself: the model that breaks it stays float, the remedy fuses."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.audit import AuditReport, audit_model
from deploy.audit.rules import RULES
from deploy.audit.rules.registry import SUFFICIENT
from quant.errors import Unsupported

K, N = 32, 24


def small_model(
    op: str = "MatMul",
    batch: int | str = "N",
    act: type[np.generic] | None = np.uint8,
    weight: type[np.generic] | None = np.int8,
    bias: str = "",
    out: type[np.generic] | None = None,
    relu: bool = False,
    readers: int = 1,
    private: bool = False,
    act_scales: int = 1,
    scale: type[np.generic] = np.float32,
    scale_input: bool = False,
    weight_zero: bool = True,
    float_reader: bool = False,
    out_readers: int = 1,
    between: str = "",
) -> onnx.ModelProto:
    """x -> Q -> DQ -> op(weight behind DQ, bias) [-> Relu] [-> Q -> DQ] -> y, and one departure per rule."""
    rng = np.random.default_rng(0)
    conv = op.startswith("Conv")
    shape: dict[str, tuple[int, ...]] = {"Conv": (N, K, 1, 1), "ConvTranspose": (K, N, 1, 1)}
    w_shape = shape.get(op, (K, N))
    x_dims = [batch, K] if op == "Gemm" else [batch, K, 4, 4] if conv else [batch, 5, K]
    half = scale is np.float16
    real = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    stored: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []
    inputs = [helper.make_tensor_value_info("x", real, x_dims)]
    outputs: list[onnx.ValueInfoProto] = []

    def node(kind: str, ins: list[str], result: str, **attrs: Any) -> str:
        nodes.append(helper.make_node(kind, ins, [result], name=f"net.{result}/{kind}", **attrs))
        return result

    def zero_point(kind: type[np.generic], size: int = 1) -> np.ndarray:
        value = {np.uint8: 128, np.uint16: 32768}.get(kind, 0)
        return np.full(() if size == 1 else size, value, kind)

    def pair(tensor: str, kind: type[np.generic], name: str, size: int = 1) -> str:
        stored[f"{name}_s"] = np.full(() if size == 1 else size, 0.05, scale)
        stored[f"{name}_z"] = zero_point(kind, size)
        axis = {"axis": len(x_dims) - 1} if size > 1 else {}
        q = node("QuantizeLinear", [tensor, f"{name}_s", f"{name}_z"], f"{name}_q", **axis)
        return node("DequantizeLinear", [q, f"{name}_s", f"{name}_z"], f"{name}_dq", **axis)

    x = "x" if act is None else pair("x", act, "act", act_scales)
    if scale_input:
        del stored["act_s"]
        inputs.append(helper.make_tensor_value_info("act_s", real, []))
    if between:
        x = node(between, [x], "between")
    for i in range(readers):
        source = pair("x", act, f"own{i}") if private and i and act is not None else x
        w = f"w{i}"
        if weight is None:
            stored[w] = rng.standard_normal(w_shape).astype(scale)
        else:
            info = np.iinfo(weight)
            stored[f"{w}_i"] = rng.integers(info.min // 2, info.max // 2, w_shape).astype(weight)
            stored[f"{w}_s"], stored[f"{w}_z"] = np.asarray(0.01, scale), np.zeros((), weight)
            if not weight_zero:
                del stored[f"{w}_z"]
            ins = [f"{w}_i", f"{w}_s", *([f"{w}_z"] if weight_zero else [])]
            w = node("DequantizeLinear", ins, f"{w}_dq")
        ins = [source, w]
        b = ""
        if bias == "float":
            b = f"b{i}"
            stored[b] = rng.standard_normal(N).astype(scale)
        elif bias == "int32":
            stored[f"b{i}_i"] = rng.integers(-99, 99, N).astype(np.int32)
            stored[f"b{i}_s"], stored[f"b{i}_z"] = np.asarray(0.05 * 0.01, scale), np.zeros((), np.int32)
            b = node("DequantizeLinear", [f"b{i}_i", f"b{i}_s", f"b{i}_z"], f"b{i}_dq")
        y = node(op, ins + ([b] if b and op != "MatMul" else []), f"fc{i}")
        if b and op == "MatMul":
            y = node("Add", [y, b], f"sum{i}")
        if relu:
            y = node("Relu", [y], f"relu{i}")
        if float_reader:
            outputs.append(helper.make_tensor_value_info(node("Sin", [y], f"sin{i}"), real, None))
        if out is not None:
            y = pair(y, out, f"out{i}")
        for j in range(out_readers - 1):
            outputs.append(helper.make_tensor_value_info(node("Neg", [y], f"neg{i}{j}"), real, None))
        outputs.append(helper.make_tensor_value_info(y, real, None))
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in stored.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def audit(tmp_path: Path, target: str = "ort-x86", **options: Any) -> AuditReport:
    path = tmp_path / "m.onnx"
    onnx.save(small_model(**options), path)
    return audit_model(path, target)


def rules(report: AuditReport) -> set[str]:
    return {f.rule for m in report.unfused for f in m.findings}


X86, ARM = "ort-x86", "ort-arm64"
STATIC = {"batch": 2}
CONV = {"op": "Conv"}
CASES = {
    "no-integer-kernel": (X86, {"op": "ConvTranspose", "out": np.uint8}, {**CONV, "out": np.uint8}),
    "activation-not-quantized": (X86, {**CONV, "act": None, "out": np.uint8}, {**CONV, "out": np.uint8}),
    "weight-not-quantized": (X86, {"weight": None}, {}),
    "scale-type": (X86, {"scale": np.float16}, {}),
    "element-type": (X86, {"act": np.uint16}, {}),
    "signed-activation-unsigned-weight": (ARM, {"act": np.int8, "weight": np.uint8}, {"act": np.int8}),
    "gemm-weight-without-zero-point": (
        X86,
        {"op": "Gemm", "bias": "int32", "weight_zero": False},
        {"op": "Gemm", "bias": "int32"},
    ),
    "per-channel-activation": (X86, {"op": "Gemm", "act_scales": K}, {"op": "Gemm"}),
    "conv-without-output-q": (X86, CONV, {**CONV, "out": np.uint8}),
    "clip-not-absorbed": (
        X86,
        {**CONV, "relu": True, "act": np.int8, "out": np.int8},
        {**CONV, "act": np.int8, "out": np.int8},
    ),
    "output-shared": (X86, {**CONV, "out": np.uint8, "float_reader": True}, {**CONV, "out": np.uint8}),
    "output-type": (ARM, {**CONV, "out": np.int8}, {**CONV, "out": np.uint8}),
    "matmul-add-fusion": (X86, {**STATIC, "bias": "float"}, {**STATIC, "bias": "int32"}),
    "gemm-float-bias": (X86, {"op": "Gemm", "bias": "float"}, {"op": "Gemm", "bias": "int32"}),
    "s8-activation-shared": (
        X86,
        {"act": np.int8, "readers": 3},
        {"act": np.int8, "readers": 3, "private": True},
    ),
}


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(RULES) - SUFFICIENT  # those are in test_audit_formats.py


@pytest.mark.parametrize("name", CASES)
def test_the_model_that_breaks_a_rule_stays_float_and_the_remedy_fuses(tmp_path: Path, name: str) -> None:
    target, broken, mended = CASES[name]
    report = audit(tmp_path, target, **broken)
    assert report.weight_share == 0
    assert rules(report) == {name}
    assert all(f.reason and f.remedy for m in report.unfused for f in m.findings)

    report = audit(tmp_path, target, **mended)
    assert report.weight_share == 1
    assert not report.unfused


def test_a_signed_output_with_several_readers_stays_float_on_x86(tmp_path: Path) -> None:
    mixed = {**CONV, "act": np.int8, "out": np.int8}
    report = audit(tmp_path, **mixed, out_readers=2)
    assert report.weight_share == 0
    assert rules(report) == {"output-type"}
    assert audit(tmp_path, **mixed).weight_share == 1


@pytest.mark.parametrize("options", [{"batch": 2}, {**CONV, "act_scales": 4, "out": np.uint8}])
def test_a_model_that_loads_but_cannot_run_is_unsupported_with_its_path(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(Unsupported, match=r"m\.onnx.*cannot run"):
        audit(tmp_path, **{"act_scales": K, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"bias": "float"},
        {"weight_zero": False},
        {**CONV, "weight_zero": False, "out": np.uint8},
        {"op": "Gemm", "bias": "float", "out": np.uint8},
        {"act": np.uint8, "readers": 3},
        {**CONV, "bias": "float", "out": np.uint8},
        {"act": np.int8},
        {"act": np.int8, "weight": np.uint8},
        {**CONV, "out": np.int8},
        {**CONV, "out": np.uint8, "scale_input": True},
        {"scale_input": True},
        {"between": "Identity"},
    ],
)
def test_what_onnx_runtime_fuses_is_not_reported(tmp_path: Path, options: dict[str, Any]) -> None:
    report = audit(tmp_path, **options)
    assert report.weight_share == 1
    assert not report.unfused


def test_on_arm_a_shared_signed_activation_fuses(tmp_path: Path) -> None:
    report = audit(tmp_path, "ort-arm64", act=np.int8, readers=3)
    assert report.weight_share == 1
    assert any("emulated" in n for n in report.notes)


def test_the_unfused_are_named_by_module(tmp_path: Path) -> None:
    report = audit(tmp_path, **STATIC, bias="float")
    (unfused,) = report.unfused
    assert (unfused.module, unfused.op, unfused.original) == ("net.fc0", "Gemm", "MatMul")
    assert unfused.macs == 2 * 5 * K * N


def test_an_operator_between_dq_and_matmul_is_named(tmp_path: Path) -> None:
    report = audit(tmp_path, **CONV, between="Sin", out=np.uint8)
    (unfused,) = report.unfused
    assert "activation-not-quantized" in rules(report)
    assert "Sin" in unfused.findings[0].reason


def test_a_float_operator_is_not_called_broken(tmp_path: Path) -> None:
    report = audit(tmp_path, act=None, weight=None)
    assert not report.unfused
    (left,) = report.left_float
    assert left.findings[0].rule == "not-in-recipe"
