"""Passes are held to their promises."""

import onnx_ir as ir
import pytest
from onnx import parser

from export.passes.base import PassNote, run_passes
from export.passes.half import HalfRemainder
from export.passes.integer_bias import IntegerBias
from export.passes.names import NameNodes
from export.passes.patches import PatchesToMatMul
from export.passes.weight_layout import TransposeWeights
from quant.errors import InternalError


def model(body: str = "y = Relu(x)", opset: int = 20) -> ir.Model:
    text = f"""<ir_version: 10, opset_import: ["" : {opset}]>
    g (float[N,4] x) => (float[N,4] y) {{ {body} }}"""
    return ir.from_proto(parser.parse_model(text))


class Idle(NameNodes):
    def run(self, model: ir.Model) -> list[PassNote]:
        del model
        return []


def test_a_broken_promise_names_the_pass() -> None:
    twice = model("a = Relu(x) y = Relu(a)")
    for node in twice.graph:
        node.name = "same"
    with pytest.raises(
        InternalError, match=r"pass 'name_nodes' broke its promise: 2 nodes are called 'same'"
    ):
        run_passes(twice, [Idle()])


def test_a_requirement_is_checked_before_anything_is_edited() -> None:
    old = model(opset=18)
    with pytest.raises(InternalError, match="opset 19"):
        run_passes(old, [HalfRemainder()])
    assert [node.op_type for node in old.graph] == ["Relu"]


@pytest.mark.parametrize(
    ("graph_pass", "body", "words"),
    [
        (IntegerBias(), "b = DequantizeLinear(c, s) y = Add(x, b)", "not a valid int32 bias"),
        (TransposeWeights(), "w = DequantizeLinear(codes, s) t = Transpose(w) y = MatMul(x, t)", "Transpose"),
        (HalfRemainder(), "y = Add(x, s)", "'s' is still float32"),
    ],
)
def test_every_promise_can_be_broken(graph_pass: object, body: str, words: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[N,2] x) => (float[N,2] y)
    <int32[2] c = {{1, 2}}, float s = {{-1.0}}, int8[2,2] codes = {{1, 2, 3, 4}}> {{ {body} }}"""
    bad = ir.from_proto(parser.parse_model(text))

    def run(_: ir.Model) -> list[PassNote]:
        return []

    graph_pass.run = run  # type: ignore[attr-defined]
    with pytest.raises(InternalError, match=f"broke its promise.*{words}"):
        run_passes(bad, [graph_pass])  # type: ignore[list-item]


def test_a_lost_output_name_breaks_the_promise_of_the_patches() -> None:
    class Renames(PatchesToMatMul):
        def run(self, model: ir.Model) -> list[PassNote]:
            notes = super().run(model)
            model.graph.outputs[0].name = "other"
            return notes

    with pytest.raises(InternalError, match=r"patches_to_matmul.*\['y'\].*\['other'\]"):
        run_passes(model(), [Renames()])


def test_passes_run_in_order_and_their_notes_are_collected() -> None:
    notes = run_passes(model(), [NameNodes(), PatchesToMatMul()])
    assert [note.graph_pass for note in notes] == ["name_nodes"]
