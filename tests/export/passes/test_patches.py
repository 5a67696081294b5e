"""A patch convolution as a matrix product: the same numbers, in every surrounding."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper, parser

from export.passes.base import PassNote, run_passes
from export.passes.patches import PatchesToMatMul
from tests.export.small_models import executed, run

TAILS = {
    "itself": ("", "y = Identity(c)"),
    "tokens": ("int64[3] shape", "r = Reshape(c, shape) y = Transpose<perm=[0, 2, 1]>(r)"),
    "channels last": ("", "y = Transpose<perm=[0, 2, 3, 1]>(c)"),
    "other order": ("", "y = Transpose<perm=[0, 3, 2, 1]>(c)"),
    "pixels first": ("int64[3] shape", "r = Reshape(c, shape) y = Transpose<perm=[2, 0, 1]>(r)"),
    "two readers": (
        "",
        "t = Transpose<perm=[0, 2, 3, 1]>(c) u = Transpose<perm=[0, 3, 1, 2]>(t) y = Add(c, u)",
    ),
}


def model(
    channels: int = 3,
    outputs: int = 5,
    kernel: tuple[int, int] = (4, 4),
    size: tuple[int, int] = (8, 12),
    tail: str = "itself",
    batch: int | str = "N",
    attributes: str = "",
    source: str = "d",
    bias: bool = True,
    per_tensor: bool = False,
) -> onnx.ModelProto:
    declared, body = TAILS[tail]
    kh, kw = kernel
    call = f"Conv<strides=[{kh}, {kw}]{attributes}>({source}, w{', b' if bias else ''})"
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[{batch},{channels},{size[0]},{size[1]}] x) => (float y) {{
      q = QuantizeLinear(x, xs, xz)
      d = DequantizeLinear(q, xs, xz)
      e = Relu(d)
      w = DequantizeLinear{"" if per_tensor else "<axis=0>"}(wc, ws)
      c = {call}
      {body}
    }}"""
    proto = parser.parse_model(text)
    del declared
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "xs": np.float32(0.03),
        "xz": np.uint8(120),
        "wc": rng.integers(-127, 128, (outputs, channels, kh, kw)).astype(np.int8),
        "ws": np.float32(0.01) if per_tensor else rng.uniform(0.005, 0.02, outputs).astype(np.float32),
        "b": rng.standard_normal(outputs).astype(np.float32),
        "shape": np.array([0, outputs, -1]),
    }
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items() if k in read
    )
    if source != "e":
        del proto.graph.node[2]
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
    for node in proto.graph.node:
        if node.op_type == "Conv":
            node.name = "stem/Conv"
    return onnx.shape_inference.infer_shapes(proto)


def rewritten(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, list[PassNote]]:
    edited = ir.from_proto(proto)
    notes = run_passes(edited, [PatchesToMatMul()])
    after = ir.to_proto(edited)
    onnx.checker.check_model(after, full_check=True)
    return after, notes


def images(proto: onnx.ModelProto, batch: int = 2) -> torch.Tensor:
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0)) * 2


def assert_equal(proto: onnx.ModelProto, expected: str) -> onnx.ModelProto:
    """float32 sums in another order: 1e-5 of the largest output."""
    after, notes = rewritten(proto)
    assert [note.text for note in notes] == ["runs as an integer matrix product on patches"]
    assert notes[0].node == "stem/Conv"
    before = run(proto, images(proto))
    np.testing.assert_allclose(run(after, images(proto)), before, rtol=0, atol=1e-5 * np.abs(before).max())
    kinds = [node.op_type for node in after.graph.node]
    assert "Conv" not in kinds
    assert expected in kinds
    return after


@pytest.mark.parametrize("tail", TAILS)
def test_the_product_equals_the_convolution(tail: str) -> None:
    after = assert_equal(model(tail=tail), "MatMul")
    readers = [n for n in after.graph.node if n.op_type == "Transpose"]
    # tokens and channels-last need no turning back: only the patches are cut
    assert len(readers) == {"tokens": 1, "channels last": 1, "itself": 2}.get(tail, len(readers))
    assert [o.name for o in after.graph.output] == ["y"]


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 1, "outputs": 2, "kernel": (2, 2)},
        {"channels": 7, "outputs": 16, "kernel": (4, 4)},
        {"channels": 3, "outputs": 4, "kernel": (2, 3)},
        {"kernel": (8, 12)},
        {"bias": False},
        {"per_tensor": True},
        {"batch": 2},
    ],
)
def test_any_size_of_patch(options: dict[str, Any]) -> None:
    assert_equal(model(**options), "MatMul")


def test_the_patches_are_cut_from_codes_and_run_in_integers(tmp_path: Path) -> None:

    after = assert_equal(model(kernel=(4, 4)), "MatMul")
    order = [n.op_type for n in after.graph.node]
    producer = {n.output[0]: n for n in after.graph.node}
    product = next(n for n in after.graph.node if n.op_type == "MatMul")
    dequantize = producer[product.input[0]]
    assert dequantize.op_type == "DequantizeLinear"
    assert producer[dequantize.input[0]].op_type == "Reshape", order
    assert "MatMulIntegerToFloat" in executed(after, tmp_path)


def test_a_fixed_batch_stays_fixed() -> None:
    after = assert_equal(model(batch=2), "MatMul")
    shapes = {
        v.name: [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim]
        for v in after.graph.value_info
    }
    assert shapes[next(n for n in after.graph.node if n.op_type == "MatMul").output[0]] == [2, 2, 3, 5]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"source": "e"}, "it is not quantized"),
        ({"size": (9, 12)}, "its input is not a whole number of patches"),
    ],
)
def test_what_does_not_fit_is_left_with_a_reason(options: dict[str, Any], reason: str) -> None:
    proto = model(**options)
    after, notes = rewritten(proto)
    assert [(note.applied, note.text) for note in notes] == [(False, reason)]
    assert [n.op_type for n in after.graph.node].count("Conv") == 1


def test_an_unknown_image_size_is_left_with_a_reason() -> None:
    proto = model()
    del proto.graph.value_info[:]
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "W"
    proto = onnx.shape_inference.infer_shapes(proto)
    _, (note,) = rewritten(proto)
    assert (note.applied, note.text) == (False, "the size of its input is not fixed")


def test_a_convolution_whose_output_is_quantized_stays() -> None:
    proto = model()
    index = next(i for i, n in enumerate(proto.graph.node) if n.op_type == "Identity")
    proto.graph.node.insert(index, onnx.helper.make_node("QuantizeLinear", ["c", "xs", "xz"], ["cq"]))
    proto.graph.node.insert(index + 1, onnx.helper.make_node("DequantizeLinear", ["cq", "xs", "xz"], ["cd"]))
    proto.graph.node[index + 2].input[0] = "cd"
    _, (note,) = rewritten(proto)
    assert (note.applied, note.text) == (False, "its output is quantized, so it runs in integers as it is")


@pytest.mark.parametrize("attributes", [", pads=[1, 1, 1, 1]", ", dilations=[2, 2]"])
def test_other_convolutions_are_not_patches(attributes: str) -> None:
    after, notes = rewritten(model(attributes=attributes))
    assert notes == []
    assert "Conv" in [n.op_type for n in after.graph.node]
