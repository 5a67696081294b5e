"""Opset 20 and later written in 17: the same numbers, or a refusal that names the layer."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

from export.passes.base import run_passes
from export.passes.older_opset import OlderOpset
from export.write import check_model
from quant.errors import Unsupported
from tests.export.small_models import run

X = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)) * 3


def model(body: str, opset: int = 20, **constants: Any) -> onnx.ModelProto:
    """Of nodes that are called ``net.layer/<operator>``."""
    proto = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[N, 5, 8] x) => (float y) {{ {body} }}'
    )
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    for name, values in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    for index, node in enumerate(proto.graph.node):
        node.name = f"net.layer{index}/{node.op_type}"
    return onnx.shape_inference.infer_shapes(proto)


def older(proto: onnx.ModelProto) -> onnx.ModelProto:
    graph = ir.from_proto(proto)
    run_passes(graph, [OlderOpset(17)])
    result = ir.to_proto(graph)
    check_model(result, "the older one")
    assert (result.opset_import[0].version, result.ir_version) == (17, 8)
    return result


def outputs(proto: onnx.ModelProto) -> NDArray[np.float64]:
    return run(proto, X)


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_gelu_is_written_out_under_its_modules_name(form: str) -> None:
    proto = model(f'y = Gelu<approximate = "{form}">(x)')
    result = older(proto)
    names = [node.name for node in result.graph.node]
    assert f"net.layer0/Gelu_{'Tanh' if form == 'tanh' else 'Erf'}" in names
    assert {name.rpartition("/")[0] for name in names} == {"net.layer0"}
    assert len(set(names)) == len(names)
    expected = torch.nn.functional.gelu(X, approximate=form).numpy()
    np.testing.assert_allclose(outputs(result), expected, rtol=0, atol=2e-6)  # float32, another order
    np.testing.assert_allclose(outputs(proto), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = ReduceMean<keepdims = 0>(x, a)", {"a": np.array([1, 2])}),
        ("y = ReduceMean(x)", {}),
        ("y = ReduceMax<keepdims = 1>(x, a)", {"a": np.array([-1])}),
        ("y = ReduceL2<noop_with_empty_axes = 1>(x, a)", {"a": np.array([1])}),
        ("p, q, r = Split<axis = 2, num_outputs = 3>(x) y = Concat<axis = 2>(r, q, p)", {}),
        ("p, q = Split<axis = 1>(x, s) y = Concat<axis = 1>(q, p)", {"s": np.array([1, 4])}),
        ("y = Pad(x, p)", {"p": np.array([0, 0, 1, 0, 2, 0])}),
        ("c = Cast<to = 7, saturate = 1>(x) y = Cast<to = 1>(c)", {}),
        (
            "y = Resize<antialias = 0, keep_aspect_ratio_policy = 'stretch'>(x, , s)".replace("'", '"'),
            {"s": np.array([1, 1, 2], np.float32)},
        ),
    ],
)
def test_other_operators_compute_the_same(body: str, constants: dict[str, Any]) -> None:
    proto = model(body, **constants)
    np.testing.assert_array_equal(outputs(older(proto)), outputs(proto))


def test_an_activation_quantizer_stays_what_it_was() -> None:
    constants = {"s": np.float32(0.03), "z": np.int8(0)}
    proto = model(
        "q = QuantizeLinear<block_size = 0>(x, s, z) y = DequantizeLinear(q, s, z)", 21, **constants
    )
    result = older(proto)
    assert "block_size" not in {a.name for node in result.graph.node for a in node.attribute}
    np.testing.assert_array_equal(outputs(result), outputs(proto))


def test_operators_of_opset_23_that_only_widened_go_back() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    proto = model("c = Conv(x, w) h = HardSwish(c) y = Transpose<perm = [0, 2, 1]>(h)", 23, w=weight)
    np.testing.assert_array_equal(outputs(older(proto)), outputs(proto))


@pytest.mark.parametrize(
    ("body", "opset", "constants", "said"),
    [
        (
            "y = GroupNormalization<num_groups = 1>(x, g, g)",
            21,
            {"g": np.ones(5, np.float32)},
            r"'net\.layer0' \(GroupNormalization\): opset 17 has no such operator",
        ),
        (
            "t = Relu(x) y = AveragePool<kernel_shape = [3], dilations = [2]>(t)",
            20,
            {},
            r"'net\.layer1' \(AveragePool\): its attribute 'dilations' came after",
        ),
        ('y = Pad<mode = "wrap">(x, p)', 20, {"p": np.array([0, 0, 1, 0, 0, 1])}, "mode 'wrap' came after"),
        ("y = Pad(x, p, , a)", 20, {"p": np.array([1, 1]), "a": np.array([2])}, "its input 4 came after"),
        ("p, q = Split<axis = 0, num_outputs = 2>(x) y = Add(p, q)", 20, {}, "size of the axis .* is open"),
        (
            "a = Cast<to = 7>(b) y = ReduceSumSquare(x, a)",
            20,
            {"b": np.float32([1])},
            "its axes are computed",
        ),
        ("y = ReduceMin<noop_with_empty_axes = 1>(x)", 20, {}, "told to do nothing without axes"),
        (
            "i = IsInf(h) y = Cast<to = 1>(i)",
            20,
            {"h": np.ones(3, np.float16)},
            r"takes tensor\(float16\) only",
        ),
        ("s = LpPool<kernel_shape = [2]>(x) y = Relu(s)", 20, {}, "means something else since opset 18"),
    ],
)
def test_what_has_no_older_form_is_refused_by_layer(
    body: str, opset: int, constants: dict[str, Any], said: str
) -> None:
    with pytest.raises(Unsupported, match=f"{said}.*reads opset 17 cannot take it"):
        run_passes(ir.from_proto(model(body, opset, **constants)), [OlderOpset(17)])


def test_functions_of_the_model_are_refused() -> None:
    proto = model("y = Relu(x)")
    made = helper.make_function(
        "octavo",
        "Twice",
        ["x"],
        ["y"],
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_opsetid("", 20)],
    )
    proto.functions.append(made)
    with pytest.raises(Unsupported, match=r"functions of the model's own \(Twice\)"):
        run_passes(ir.from_proto(proto), [OlderOpset(17)])


def test_a_file_that_is_old_enough_is_left_alone() -> None:
    graph = ir.from_proto(model("y = Relu(x)", 13))
    assert run_passes(graph, [OlderOpset(17)]) == []
    assert graph.graph.opset_imports[""] == 13
    assert graph.graph.inputs[0].dtype == TensorProto.FLOAT
