"""Repeats the experiment the module's docstring reports, on CPUs where the kernels can saturate."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.audit import audit_model
from deploy.audit.saturation import adjacent_pairs, worst_sums
from deploy.cpu import cpu_info, has_vnni
from deploy.onnxruntime.run import OrtRunner

ON_AVX2 = pytest.mark.skipif(
    has_vnni() or "avx2" not in cpu_info().isa, reason="only x86 without VNNI adds in a saturating int16"
)


def kernel_model(
    op: str, weight: np.ndarray, x_shape: tuple[int, ...], act: type[np.generic] = np.uint8, **attrs: Any
) -> onnx.ModelProto:
    size = weight.shape[0] if op == "QLinearConv" or attrs.get("transB") else weight.shape[1]
    stored = {"w": weight, "s": np.float32(1), "z": act(0), "ws": np.ones(size, np.float32),
              "wz": np.zeros(size, weight.dtype), "ys": np.float32(600), "yz": np.uint8(0)}  # fmt: skip
    inputs = {
        "MatMulIntegerToFloat": ["x", "w", "s", "ws", "z", "wz"],
        "QGemm": ["x", "s", "z", "w", "ws", "wz"],
        "QLinearMatMul": ["x", "s", "z", "w", "ws", "wz", "ys", "yz"],
        "QLinearConv": ["x", "s", "z", "w", "ws", "wz", "ys", "yz"],
    }[op]
    domain = "com.microsoft" if op in ("MatMulIntegerToFloat", "QGemm") else ""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(act))
    result = TensorProto.UINT8 if op.startswith("QLinear") else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], domain=domain, name="net.layer/kernel", **attrs)],
        "g",
        [helper.make_tensor_value_info("x", element, x_shape)],
        [helper.make_tensor_value_info("y", result, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items() if k in inputs],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def saturated(op: str, weight: np.ndarray, x_shape: tuple[int, ...], want: int, **attrs: Any) -> bool:
    """Run with all activations at 255; 600 is the output step of the kernels that write integers."""
    model = kernel_model(op, weight, x_shape, **attrs)
    with OrtRunner(model.SerializeToString()) as runner:
        y = runner.infer({"x": np.full(x_shape, 255, np.uint8)})["y"]
    step = 600 if op.startswith("QLinear") else 1
    return bool((np.abs(y.astype(np.float64) * step - want) > step).any())


def predicted(weight: np.ndarray, op: str, **attrs: Any) -> bool:
    node = helper.make_node(op, ["x"], ["y"], **attrs)
    return bool((worst_sums(adjacent_pairs(weight.astype(np.int32), node)) > 32767).any())


@ON_AVX2
@pytest.mark.parametrize("op", ["MatMulIntegerToFloat", "QLinearMatMul", "QGemm", "QGemm transB"])
def test_every_pair_of_k_saturates_exactly_where_predicted_in_matmuls(op: str) -> None:
    k, n = 7, 16
    name, _, transposed = op.partition(" ")
    attrs = {"transB": 1} if transposed else {}
    outcomes = set()
    for i in range(k):
        for j in range(i + 1, k):
            weight = np.zeros((k, n), np.int8)
            weight[[i, j]] = 127
            weight = np.ascontiguousarray(weight.T) if transposed else weight
            expected = predicted(weight, name, **attrs)
            assert saturated(name, weight, (3, k), 2 * 255 * 127, **attrs) == expected, (i, j)
            outcomes.add(expected)
    assert outcomes == {True, False}


@ON_AVX2
@pytest.mark.parametrize(("channels", "group", "out"), [(4, 1, 8), (3, 1, 8), (8, 2, 32)])
def test_every_pair_of_k_saturates_exactly_where_predicted_in_convolutions(
    channels: int, group: int, out: int
) -> None:
    per_group, kernel = channels // group, 2
    length = per_group * kernel * kernel
    outcomes = set()
    for i in range(length):
        for j in range(i + 1, length):
            weight = np.zeros((out, length), np.int8)
            weight[:, [i, j]] = 127
            weight = weight.reshape(out, per_group, kernel, kernel)
            expected = predicted(weight, "QLinearConv")
            got = saturated("QLinearConv", weight, (1, channels, 5, 5), 2 * 255 * 127, group=group)
            assert got == expected, (i, j)
            outcomes.add(expected)
    assert outcomes == {True, False}


@ON_AVX2
def test_depthwise_convolutions_are_exact() -> None:
    weight = np.full((8, 1, 3, 3), 127, np.int8)
    model = kernel_model("QLinearConv", weight, (1, 8, 5, 5), group=8)
    model.graph.initializer[-2].CopyFrom(numpy_helper.from_array(np.float32(6000), "ys"))
    with OrtRunner(model.SerializeToString()) as runner:
        y = runner.infer({"x": np.full((1, 8, 5, 5), 255, np.uint8)})["y"]
    assert (np.abs(y.astype(np.float64) * 6000 - 9 * 255 * 127) <= 3000).all()


def risks(tmp_path: Path, weight: np.ndarray, act: type[np.generic] = np.uint8) -> list[tuple[str, int, int]]:
    path = tmp_path / "m.onnx"
    onnx.save(kernel_model("MatMulIntegerToFloat", weight, (3, weight.shape[0]), act=act), path)
    return [(r.module, r.pairs, r.worst) for r in audit_model(path).saturation]


def test_the_audit_counts_the_pairs_at_risk(tmp_path: Path) -> None:
    weight = np.zeros((6, 4), np.int8)
    weight[0:2, 0] = 100  # a pair that overflows: 255 · 200
    weight[1:3, 1] = 100  # neighbours in two different pairs
    weight[4, 2], weight[5, 2] = 127, -127  # opposite signs
    weight[2:4, 3] = -65  # overflows below: 255 · 130 > 32768
    assert risks(tmp_path, weight) == [("net.layer", 2, 255 * 200)]


def test_seven_bit_weights_unsigned_weights_and_signed_activations_are_safe(tmp_path: Path) -> None:
    assert risks(tmp_path, np.full((6, 4), 64, np.int8)) == []
    assert risks(tmp_path, np.full((6, 4), -64, np.int8)) == []
    assert risks(tmp_path, np.full((6, 4), 255, np.uint8)) == []
    assert risks(tmp_path, np.full((6, 4), 127, np.int8), act=np.int8) == []
    assert risks(tmp_path, np.full((6, 4), 127, np.int8)) != []


def test_worst_sums_match_a_search_over_all_extreme_activations() -> None:
    pairs = np.random.default_rng(0).integers(-128, 128, (200, 2)).astype(np.int32)
    extremes = np.array([(a, b) for a in (0, 255) for b in (0, 255)])  # a linear form is extreme at corners
    expected = np.abs(pairs @ extremes.T).max(axis=1)
    np.testing.assert_array_equal(worst_sums(pairs), expected)
