"""Cutting a model into layers."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from export.lower import lower
from export.parity.cut import cut_model, layer_ends
from export.targets import get_target
from quant.errors import InternalError
from tests.export.small_models import Served


def test_a_part_computes_what_it_computes_in_the_whole(vit: Served, tmp_path: Path) -> None:
    path = tmp_path / "arm.onnx"
    lower(vit.qdq, vit.calibrated, get_target("ort-arm64"), path, {})
    whole = onnx.load(path)
    ends = layer_ends(whole.graph, "blocks.0.mlp.fc1.input", "blocks.0.mlp.fc1.weight")
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (ends.codes, ends.result))
    off = SessionSettings(optimization=Optimization.OFF)
    session = build_session(whole.SerializeToString(), off)
    codes, result = session.run([ends.codes, ends.result], {"input": vit.example.numpy()})
    part = cut_model(onnx.load(path), [ends.codes], [ends.result])
    assert (part.inputs, part.outputs) == ((ends.codes,), (ends.result,))
    kinds = sorted(n.op_type for n in part.model.graph.node)
    assert kinds == ["Add", "DequantizeLinear", "DequantizeLinear", "MatMul"]
    (got,) = build_session(part.model.SerializeToString(), off).run(None, {ends.codes: codes})
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(got, result)


def test_what_needs_the_models_input_cannot_be_cut(vit: Served) -> None:
    with pytest.raises(InternalError, match="'input' cannot be cut off"):
        cut_model(onnx.load(vit.qdq), [], ["output"])


@pytest.mark.parametrize(
    ("activation", "weight"),
    [("no.input", "head.weight"), ("head.input", "no.weight"), ("blocks.0.mlp.fc1.input", "head.weight")],
)
def test_sites_that_form_no_layer_are_an_internal_error(activation: str, weight: str, vit: Served) -> None:
    with pytest.raises(InternalError, match=f"no layer with the sites '{activation}' and '{weight}'"):
        layer_ends(onnx.load(vit.qdq).graph, activation, weight)
