"""Weight layout, integer biases and the float16 remainder, on small graphs and ONNX Runtime itself."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, numpy_helper, parser

from export.passes.base import PassNote, run_passes
from export.passes.half import HalfRemainder
from export.passes.integer_bias import IntegerBias
from export.passes.weight_layout import TransposeWeights
from tests.export.small_models import executed, run

K, N = 16, 6
GEMM = "y = Gemm<transB=1>(d, w, b)"
MATMUL = "t = Transpose<perm=[1, 0]>(w) m = MatMul(d, t) y = Add(m, b)"


def layer(body: str, shape: str = "N, 16", **arrays: Any) -> onnx.ModelProto:
    """Input behind Q/DQ ``d`` and weight [N, K] behind DQ ``w``; the rest is ``body``."""
    rng = np.random.default_rng(0)
    stored = {
        "s": np.float32(0.03),
        "z": np.uint8(120),
        "codes": rng.integers(-60, 61, (N, K)).astype(np.int8),  # no 16-bit sum overflows
        "ws": rng.uniform(0.005, 0.02, N).astype(np.float32),
        "b": rng.standard_normal(N).astype(np.float32),
    } | arrays
    proto = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[{shape}] x) => (float y) {{
      q = QuantizeLinear(x, s, z)
      d = DequantizeLinear(q, s, z)
      w = DequantizeLinear<axis=0>(codes, ws)
      {body}
    }}""")
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items() if k in read
    )
    for node in proto.graph.node:
        node.name = f"fc.{node.output[0]}/{node.op_type}"
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    return onnx.shape_inference.infer_shapes(proto)


def after(proto: onnx.ModelProto, *passes: Any) -> tuple[onnx.ModelProto, list[PassNote]]:
    edited = ir.from_proto(proto)
    notes = run_passes(edited, passes)
    result = ir.to_proto(edited)
    onnx.checker.check_model(result, full_check=True)
    return result, notes


def x(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_weights_are_stored_as_their_product_reads_them() -> None:
    given = layer(MATMUL)
    result, (note,) = after(given, TransposeWeights())
    assert note.text == f"stored as [{K}, {N}]"
    stored = {i.name: numpy_helper.to_array(i) for i in result.graph.initializer}
    assert stored["codes"].shape == (K, N)
    assert "Transpose" not in [n.op_type for n in result.graph.node]
    np.testing.assert_array_equal(run(result, x(4, K)), run(given, x(4, K)))


def test_a_weight_with_a_second_reader_keeps_its_layout() -> None:
    given = layer(f"{MATMUL.replace('y = Add(m, b)', 'm2 = Gemm<transB=1>(d, w) y = Add(m, m2)')}")
    result, notes = after(given, TransposeWeights())
    assert notes == []
    np.testing.assert_array_equal(run(result, x(4, K)), run(given, x(4, K)))


@pytest.mark.parametrize(
    ("body", "shape", "size"),
    [
        (GEMM, "N, 16", (4, K)),
        ("t = Transpose<perm=[1, 0]>(w) y = Gemm(d, t, b)", "N, 16", (4, K)),
        (MATMUL, "4, 16", (4, K)),
        (MATMUL, "2, 3, 16", (2, 3, K)),
        (MATMUL.replace("Add(m, b)", "Add(b, m)"), "2, 3, 16", (2, 3, K)),
    ],
)
def test_a_layer_with_an_integer_bias_runs_as_qgemm(
    body: str, shape: str, size: tuple[int, ...], tmp_path: Path
) -> None:
    given = layer(body, shape)
    assert "QGemm" not in executed(given, tmp_path)
    result, notes = after(given, TransposeWeights(), IntegerBias())
    assert notes[-1].text == "bias written as int32"
    assert "QGemm" in executed(result, tmp_path)
    # the bias moves by at most half a step of scale_input · scale_weight
    step = 0.03 * 0.02
    expected = run(given, x(*size))
    assert np.abs(run(result, x(*size)) - expected).max() <= step / 2 + 1e-5
    assert np.abs(run(result, x(*size), optimized=True) - expected).max() <= step / 2 + 1e-5


def test_the_bias_of_an_open_batch_stays_float(tmp_path: Path) -> None:
    result, notes = after(layer(MATMUL, "N, 3, 16"), TransposeWeights(), IntegerBias())
    assert not [note for note in notes if note.graph_pass == "integer_bias"]
    assert "MatMulIntegerToFloat" in executed(result, tmp_path)


def test_a_gemm_without_bias_also_runs_in_integers(tmp_path: Path) -> None:
    given = layer("y = Gemm<transB=1>(d, w)")
    assert "QGemm" not in executed(given, tmp_path), "the weight's zero point is not named"
    result, (note,) = after(given, IntegerBias())
    assert (note.applied, note.text) == (False, "it has no bias")
    assert "QGemm" in executed(result, tmp_path)
    np.testing.assert_array_equal(run(result, x(4, K)), run(given, x(4, K)))


@pytest.mark.parametrize(
    ("body", "arrays", "reason"),
    [
        (GEMM, {"b": np.full(N, 1e9, np.float32)}, "a bias does not fit int32 at the product of its scales"),
        (GEMM.replace("d, w", "x, w"), {}, "its factors are not both quantized"),
        ("c = ReduceMean<keepdims=0>(d, axes) y = Gemm<transB=1>(d, w, c)", {}, "its bias is computed"),
        (GEMM, {"b": np.ones((1, N), np.float32)}, "its bias is not one number per output channel"),
    ],
)
def test_a_bias_that_cannot_be_written_is_left_with_a_reason(
    body: str, arrays: dict[str, Any], reason: str
) -> None:
    if "axes" in body:
        arrays = arrays | {"axes": np.array([0, 1])}
    given = layer(body, "4, 16", **arrays)
    result, (note,) = after(given, IntegerBias())
    assert (note.node, note.applied, note.text) == ("fc.y/Gemm", False, reason)
    np.testing.assert_array_equal(run(result, x(4, K)), run(given, x(4, K)))


def test_layers_that_share_a_bias_get_one_each() -> None:
    """The exporter merges equal biases; their codes differ, because the weights' scales do."""
    given = layer(
        "v = DequantizeLinear<axis=0>(codes, vs) f = Gemm<transB=1>(d, w, b) g = Gemm<transB=1>(d, v, b)"
        " y = Add(f, g)",
        vs=np.linspace(0.1, 0.2, N, dtype=np.float32),
    )
    result, notes = after(given, IntegerBias())
    assert [note.applied for note in notes] == [True, True]
    expected = run(given, x(4, K))
    assert np.abs(run(result, x(4, K)) - expected).max() <= 0.03 * 0.22 / 2 + 1e-4


def test_float16_covers_everything_but_inputs_and_outputs() -> None:
    given = layer("t = Transpose<perm=[1, 0]>(w) m = MatMul(d, t) a = Add(m, b) y = Softmax(a)")
    given.graph.initializer[[i.name for i in given.graph.initializer].index("z")].CopyFrom(
        numpy_helper.from_array(np.array(0, np.int8), "z")
    )
    given = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(given.SerializeToString()))
    del given.graph.value_info[:]
    given = onnx.shape_inference.infer_shapes(given)
    result, (note,) = after(given, HalfRemainder())
    assert note.text.endswith("clipped to ±65504: nothing")
    ends = [*result.graph.input, *result.graph.output]
    assert [v.name for v in ends] == ["x", "y"]
    assert {v.type.tensor_type.elem_type for v in ends} == {TensorProto.FLOAT}
    stored = {i.name: i for i in result.graph.initializer}
    for name in ("s", "ws", "b"):
        assert stored[name].data_type == TensorProto.FLOAT16
        assert name == "b" or (numpy_helper.to_array(stored[name]) > 0).all()
    # scales here are rounded to float16 (2^-11), sums of 16 products of float16 values: a few 1e-3 of 1
    np.testing.assert_allclose(run(result, x(4, K)), run(given, x(4, K)), rtol=0, atol=5e-3)


def test_what_float16_cannot_hold_is_clipped_and_named() -> None:
    given = layer(
        "t = Transpose<perm=[1, 0]>(w) m = MatMul(d, t) y = Add(m, b)", b=np.full(N, -1e9, np.float32)
    )
    result, (note,) = after(given, HalfRemainder())
    assert note.text.endswith("clipped to ±65504: b")
    stored = {i.name: numpy_helper.to_array(i) for i in result.graph.initializer}
    assert (stored["b"] == -65504).all()


def test_infinite_masks_become_the_most_negative_number() -> None:
    given = layer(
        "t = Transpose<perm=[1, 0]>(w) m = MatMul(d, t) y = Add(m, b)", b=np.full(N, -np.inf, np.float32)
    )
    result, (note,) = after(given, HalfRemainder())
    assert note.text.endswith("nothing")
    stored = {i.name: numpy_helper.to_array(i) for i in result.graph.initializer}
    assert (stored["b"] == -65504).all()
