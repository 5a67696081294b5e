"""FP8 as casts is FP8 as Q/DQ operators, bit for bit, and survives ONNX Runtime's optimizer."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, parser

from export.passes.base import run_passes
from export.passes.fp8_casts import Fp8Casts
from quant.errors import BadInput
from tests.export.small_models import run

SCALE = 0.013


def pair(tail: str, shape: str) -> onnx.ModelProto:
    proto = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[N, 1, 8] x) => (float[{shape}] y) {{
      q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) {tail}
    }}""")
    proto.graph.initializer.append(helper.make_tensor("s", TensorProto.FLOAT, [], [SCALE]))
    proto.graph.initializer.append(helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0]))
    for node in proto.graph.node:
        node.name = f"net/{node.op_type}"
    return onnx.shape_inference.infer_shapes(proto)


def as_casts(proto: onnx.ModelProto) -> onnx.ModelProto:
    model = ir.from_proto(proto)
    (note,) = run_passes(model, [Fp8Casts()])
    assert "1 quantizers" in note.text
    return ir.to_proto(model)


@pytest.mark.parametrize("optimized", [False, True])
def test_casts_are_the_operators_bit_for_bit(optimized: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    ordinary = torch.randn(500, 1, 8, generator=generator) * 3
    beyond = torch.tensor([448.0, 449.0, 463.0, 465.0, 1e6, -1e6, 0.0, -0.0]).reshape(1, 1, 8) * SCALE
    x = torch.cat([ordinary, beyond])
    proto = pair("y = Neg(d)", "N, 1, 8")
    np.testing.assert_array_equal(run(as_casts(proto), x, optimized), run(proto, x))


def test_the_operators_break_where_the_casts_stand() -> None:
    """Why the pass exists: the optimizer moves the pair in front of Squeeze, which has no FP8 kernel."""
    proto = pair("a = Constant<value_ints=[1]>() t = Squeeze(d, a) y = Neg(t)", "N, 8")
    before = pair("y = Neg(d)", "N, 1, 8")
    x = torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(BadInput, match="float8e4m3fn"):
        run(proto, x, optimized=True)
    np.testing.assert_array_equal(run(as_casts(proto), x, optimized=True), run(before, x).reshape(4, 8))
