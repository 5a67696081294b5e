"""The contract with onnxsim: every promise is broken once, and noticed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxsim
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper, parser

from export.simplify import broken_promise, simplify

TEXT = """<ir_version: 10, opset_import: ["" : 20]>
block (float[N,3,8] input) => (float[N,3,8] output)
<float[8] gamma, float[8] beta, float[8] bias, int8[8,8] codes,
 float layer_input_scale = {0.05}, uint8 zero = {128}, float[8] layer_weight_scale> {
  normed = LayerNormalization<axis=-1>(input, gamma, beta)
  q = QuantizeLinear(normed, layer_input_scale, zero)
  dq = DequantizeLinear(q, layer_input_scale, zero)
  weight = DequantizeLinear<axis=1>(codes, layer_weight_scale)
  product = MatMul(dq, weight)
  output = Add(product, bias)
}"""


def block() -> ModelProto:
    model = parser.parse_model(TEXT)
    del model.graph.value_info[:]
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "gamma": rng.uniform(0.5, 1.5, 8).astype(np.float32),
        "beta": rng.standard_normal(8).astype(np.float32),
        "bias": rng.standard_normal(8).astype(np.float32),
        "codes": rng.integers(-127, 128, (8, 8)).astype(np.int8),
        "layer_weight_scale": rng.uniform(0.01, 0.02, 8).astype(np.float32),
    }
    kept = [i for i in model.graph.initializer if i.name not in arrays]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *(numpy_helper.from_array(v, k) for k, v in arrays.items())])
    onnx.checker.check_model(model, full_check=True)
    return model


EXAMPLE = np.random.default_rng(1).standard_normal((2, 3, 8)).astype(np.float32)


def edited(*replacements: tuple[str, list[onnx.NodeProto]]) -> ModelProto:
    """The block with the producers of some tensors replaced by other nodes."""
    model = block()
    for tensor, nodes in replacements:
        index = next(i for i, n in enumerate(model.graph.node) if tensor in n.output)
        rest = [*model.graph.node[:index], *nodes, *model.graph.node[index + 1 :]]
        del model.graph.node[:]
        model.graph.node.extend(rest)
    return model


def without_pair() -> ModelProto:
    return edited(("q", []), ("dq", [helper.make_node("Identity", ["normed"], ["dq"])]))


def folded_weight() -> ModelProto:
    model = edited(("weight", []))
    stored = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    weight = stored["codes"].astype(np.float32) * stored["layer_weight_scale"]
    model.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    return model


def apart() -> ModelProto:
    model = edited(
        (
            "normed",
            [
                helper.make_node("ReduceMean", ["input", "axis"], ["mean"]),
                helper.make_node("Sub", ["input", "mean"], ["centred"]),
                helper.make_node("Mul", ["centred", "centred"], ["squares"]),
                helper.make_node("ReduceMean", ["squares", "axis"], ["variance"]),
                helper.make_node("Add", ["variance", "eps"], ["shifted"]),
                helper.make_node("Sqrt", ["shifted"], ["deviation"]),
                helper.make_node("Div", ["centred", "deviation"], ["unit"]),
                helper.make_node("Mul", ["unit", "gamma"], ["scaled"]),
                helper.make_node("Add", ["scaled", "beta"], ["normed"]),
            ],
        )
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "axis"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e-5, np.float32), "eps"))
    return model


def as_gemm() -> ModelProto:
    model = edited(
        ("product", [helper.make_node("Reshape", ["dq", "flat"], ["rows"])]),
        (
            "output",
            [
                helper.make_node("Gemm", ["rows", "weight", "bias"], ["sums"]),
                helper.make_node("Reshape", ["sums", "back"], ["output"]),
            ],
        ),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 8]), "flat"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 3, 8]), "back"))
    return model


def other_output() -> ModelProto:
    model = block()
    bias = next(i for i in model.graph.initializer if i.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(1e-2), "bias"))
    return model


BROKEN: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "pair removed": (without_pair, "QuantizeLinear with scale 'layer_input_scale': 1 before, 0 after"),
    "weight folded": (folded_weight, "weight DequantizeLinear with scale 'layer_weight_scale' was folded"),
    "norm apart": (apart, "1 LayerNormalization before, 0 after"),
    "gemm": (as_gemm, "1 MatMul before, 0 after"),
    "output": (other_output, "the output changed by"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_promise_is_named(case: str) -> None:
    make, words = BROKEN[case]
    onnx.checker.check_model(make(), full_check=True)
    assert words in (broken_promise(block(), make(), EXAMPLE) or "")


def test_an_output_that_is_not_a_number_breaks_the_promise() -> None:
    after = block()
    bias = next(i for i in after.graph.initializer if i.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(8, np.nan, np.float32), "bias"))
    assert "the output changed" in (broken_promise(block(), after, EXAMPLE) or "")


def test_a_faithful_result_breaks_none() -> None:
    assert broken_promise(block(), block(), EXAMPLE) is None


@pytest.mark.parametrize("case", BROKEN)
def test_a_result_that_breaks_a_promise_is_not_used(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, words = BROKEN[case]
    monkeypatch.setattr(onnxsim, "simplify", lambda *_, **__: (make(), True))
    given = ir.from_proto(block())
    result = simplify(given, torch.from_numpy(EXAMPLE))
    assert result.model is given
    assert not result.note.used
    assert words in result.note.reason
    assert result.note.nodes_after == result.note.nodes_before == 6


def test_a_crash_of_onnxsim_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken pipe in pass 7\nstack")

    monkeypatch.setattr(onnxsim, "simplify", crash)
    given = ir.from_proto(block())
    result = simplify(given, torch.from_numpy(EXAMPLE))
    assert result.model is given
    assert result.note.reason == "onnxsim failed: RuntimeError: broken pipe in pass 7"


def test_a_failed_check_of_onnxsim_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxsim, "simplify", lambda model, **_: (model, False))
    given = ir.from_proto(block())
    result = simplify(given, torch.from_numpy(EXAMPLE))
    assert result.model is given
    assert result.note.reason == "onnxsim's own check failed"


def test_what_can_be_simplified_is_and_the_rest_stays() -> None:
    """Two Identities and a constant chain go; Q/DQ, the norm, MatMul + Add and the metadata stay."""
    model = edited(
        (
            "output",
            [
                helper.make_node("Identity", ["product"], ["same"]),
                helper.make_node("Add", ["bias", "zeros"], ["whole"]),
                helper.make_node("Add", ["same", "whole"], ["sum"]),
                helper.make_node("Identity", ["sum"], ["output"]),
            ],
        )
    )
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(8, np.float32), "zeros"))
    given = ir.from_proto(model)
    given.metadata_props["octavo.key"] = "value"
    result = simplify(given, torch.from_numpy(EXAMPLE))
    assert result.note.used, result.note.reason
    kinds = sorted(node.op_type for node in result.model.graph)
    assert kinds == sorted(node.op_type for node in block().graph.node)
    assert (result.note.nodes_before, result.note.nodes_after) == (9, 6)
    assert dict(result.model.metadata_props) == {"octavo.key": "value"}
