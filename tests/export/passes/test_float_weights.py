"""Weights in float32 on their grid give the codes back that were stored before."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper, parser

from export.lower import lower
from export.passes.base import run_passes
from export.passes.float_weights import FloatWeights
from export.targets import get_target
from quant.errors import InternalError
from tests.export.small_models import Served, images_of, run


def product(scale: Any, axis: int = 1, codes: type[np.generic] = np.int8) -> onnx.ModelProto:
    proto = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[N, 255] x) => (float[N, 7] y) {{
      w = DequantizeLinear<axis = {axis}>(c, s) y = MatMul(x, w)
    }}""")
    values = np.tile(np.arange(-127, 128)[:, None], (1, 7)).astype(codes)
    for name, array in (("c", values), ("s", np.asarray(scale, np.float32))):
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = f"fc/{node.op_type}"
    return proto


@pytest.mark.parametrize(
    ("scale", "axis"),
    [(np.geomspace(1e-12, 1e3, 7), 1), (np.geomspace(1e-12, 1e3, 7), -1), (0.1, 1)],
)
def test_all_codes_come_back(scale: Any, axis: int) -> None:
    proto = product(scale, axis)
    model = ir.from_proto(proto)
    run_passes(model, [FloatWeights()])
    result = ir.to_proto(model)
    onnx.checker.check_model(result, full_check=True)
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    for node in result.graph.node[:2]:
        zero = numpy_helper.to_array(constants[node.input[2]])
        assert zero.dtype == np.int8
        assert zero.shape == np.shape(scale)
        assert not zero.any()
    assert constants[result.graph.node[0].input[0]].data_type == TensorProto.FLOAT
    x = images_of(4, 255)
    np.testing.assert_array_equal(run(result, x), run(proto, x))


def test_other_codes_are_our_error() -> None:
    with pytest.raises(InternalError, match=r"codes of 'fc/DequantizeLinear' are no int8"):
        run_passes(ir.from_proto(product(0.1, codes=np.uint8)), [FloatWeights()])


def test_the_target_has_no_codes_and_no_pair_without_a_zero_point(cnn: Served, tmp_path: Path) -> None:
    lower(cnn.qdq, cnn.calibrated, get_target("tensorrt8"), tmp_path / "m.onnx", {})
    graph = onnx.load(tmp_path / "m.onnx").graph
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert not [name for name in constants if name.endswith(".codes")]
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 6
    for node in pairs:
        assert constants[node.input[1]] == TensorProto.FLOAT
        assert constants[node.input[2]] == TensorProto.INT8
        assert node.op_type == "QuantizeLinear" or node.input[0] not in constants
