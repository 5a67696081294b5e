"""Attention as one operator: the same numbers, however it is written, and left alone where it is none."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper, parser

from export.passes.attention import OPSET, FuseAttention
from export.passes.base import PassNote, run_passes
from tests.export.small_models import run

B, N, H, D = 2, 7, 3, 4
CUTS = {
    "slices": """
      a = Slice(t, i0, i1, i0) q = Squeeze(a, i0)
      b = Slice(t, i1, i2, i0) k = Squeeze(b, i0)
      c = Slice(t, i2, i3, i0) v = Squeeze(c, i0)""",
    "gathers": """
      q = Gather<axis=0>(t, n0) k = Gather<axis=0>(t, n1) v = Gather<axis=0>(t, n2)""",
    "another order": """
      q = Gather<axis=0>(t, n0) k = Gather<axis=0>(t, n2) v = Gather<axis=0>(t, n1)""",
}
SCALES = {
    "queries": "qs = Mul(q, s) kt = Transpose<perm=[0, 1, 3, 2]>(k) m = MatMul(qs, kt)",
    "keys": "ks = Mul(s, k) kt = Transpose<perm=[0, 1, 3, 2]>(ks) m = MatMul(q, kt)",
    "both": "qs = Mul(q, s) kt = Transpose<perm=[0, 1, 3, 2]>(k) ks = Mul(kt, s) m = MatMul(qs, ks)",
    "scores": "kt = Transpose<perm=[0, 1, 3, 2]>(k) p = MatMul(q, kt) m = Div(p, s)",
    "nothing": "kt = Transpose<perm=[0, 1, 3, 2]>(k) m = MatMul(q, kt)",
}
FACTORS = {"queries": 0.5, "keys": 0.5, "both": 0.25, "scores": 2.0, "nothing": 1.0}
MERGED = "o = Transpose<perm=[0, 2, 1, 3]>(r) y = Reshape(o, merged)"


def model(
    cut: str = CUTS["slices"],
    scores: str = SCALES["queries"],
    softmax: str = "x = Softmax<axis=-1>(m) r = MatMul(x, v)",
    tail: str = MERGED,
    opset: int = 20,
    batch: int | str = "batch",
) -> onnx.ModelProto:
    proto = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : {opset}]>
        g (float[{batch},{N},{3 * H * D}] x0) => (float y) {{
          u = Reshape(x0, apart) t = Transpose<perm=[2, 0, 3, 1, 4]>(u) {cut} {scores} {softmax} {tail}
        }}"""
    )
    arrays: dict[str, Any] = {
        "apart": np.array([-1, N, 3, H, D]),
        "merged": np.array([-1, N, H * D]),
        "s": np.float32(0.5),
        "mask": np.float32(np.tri(N)),
        "vector": np.linspace(0.1, 1, D, dtype=np.float32),
        "zero": np.uint8(9),
    }
    arrays |= {f"i{i}": np.array([i]) for i in range(4)} | {f"n{i}": np.array(i) for i in range(3)}
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a), k) for k, a in arrays.items() if k in used
    )
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def fused(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, list[PassNote]]:
    """The model behind the pass; its outputs are those of before."""
    edited = ir.from_proto(proto)
    for i, node in enumerate(edited.graph):
        node.name = f"block.attn/{node.op_type}_{i}"
    notes = run_passes(edited, [FuseAttention()])
    after = ir.to_proto(edited)
    onnx.checker.check_model(after, full_check=True)
    x = torch.randn(B, N, 3 * H * D, generator=torch.Generator().manual_seed(0))
    # The same sums of float32, perhaps in another order.
    np.testing.assert_allclose(run(after, x), run(proto, x), rtol=1e-5, atol=1e-6)
    return after, notes


def attention(proto: onnx.ModelProto) -> dict[str, Any]:
    (node,) = [n for n in proto.graph.node if n.op_type == "Attention"]
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


@pytest.mark.parametrize("cut", ["slices", "gathers"])
@pytest.mark.parametrize("scores", SCALES)
def test_a_packed_projection_goes_in_whole(cut: str, scores: str) -> None:
    after, (note,) = fused(model(CUTS[cut], SCALES[scores]))
    assert [n.op_type for n in after.graph.node] == ["Split", "Attention"]
    assert attention(after) == {"scale": FACTORS[scores], "q_num_heads": H, "kv_num_heads": H}
    assert note.node.startswith("block.attn/Softmax")
    assert (note.applied, note.text) == (True, "one operator on the packed projection")
    assert after.opset_import[0].version == OPSET
    assert after.graph.node[1].name == "block.attn/Attention"


@pytest.mark.parametrize(
    "changes",
    [
        {"cut": CUTS["another order"]},
        {"tail": "y = Identity(r)"},
        {"tail": "o = Transpose<perm=[0, 2, 3, 1]>(r) y = Reshape(o, merged)"},
        {"scores": "q2 = Mul(q, vector) kt = Transpose<perm=[0, 1, 3, 2]>(k) m = MatMul(q2, kt)"},
    ],
)
def test_other_operands_go_in_by_heads(changes: dict[str, str]) -> None:
    after, (note,) = fused(model(**changes))
    assert attention(after).keys() == {"scale"}
    assert note.text == "one operator on its heads"


QUANTIZED = "qc = QuantizeLinear(q, s, zero) qd = DequantizeLinear(qc, s, zero)"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scores": SCALES["queries"].replace("m =", "p =") + " m = Add(p, mask)"}, "no plain product"),
        ({"softmax": "x = Softmax<axis=2>(m) r = MatMul(x, v)"}, "over the last of four axes"),
        ({"softmax": "x = Softmax(m) z = Mul(x, x) r = MatMul(z, v)"}, "not only multiplied by values"),
        ({"tail": "z = MatMul(x, v) y = Add(z, r)"}, "not only multiplied by values"),
        (
            {"scores": "a1 = Transpose<perm=[1, 0, 3, 2]>(k) kt = Transpose<perm=[1, 0, 2, 3]>(a1) "
             "m = MatMul(q, kt)"},
            "keys are not transposed",
        ),
        ({"scores": f"{QUANTIZED} kt = Transpose<perm=[0, 1, 3, 2]>(k) m = MatMul(qd, kt)"}, "quantized"),
    ],
)  # fmt: skip
def test_what_is_no_float_attention_stays_and_is_told(changes: dict[str, str], reason: str) -> None:
    before = model(**changes)
    after, (note,) = fused(before)
    assert not note.applied
    assert reason in note.text
    assert [n.op_type for n in after.graph.node] == [n.op_type for n in before.graph.node]
    assert after.opset_import[0].version == 20


def test_a_newer_operator_set_stays() -> None:
    after, _ = fused(model(opset=24))
    assert after.opset_import[0].version == 24


def test_group_normalization_of_an_older_set_keeps_it() -> None:
    tail = f"{MERGED.replace('y =', 'e =')} y = GroupNormalization<num_groups=1>(e, gn, gb)"
    before = model(tail=tail, batch=B)
    for name in ("gn", "gb"):
        before.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), name))
    edited = ir.from_proto(before)
    (note,) = run_passes(edited, [FuseAttention()])
    assert "GroupNormalization" in note.text
    assert edited.graph.opset_imports[""] == 20
