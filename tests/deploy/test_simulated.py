"""Exported functions are listed as simulated, and only those."""

from pathlib import Path

import onnx
import pytest

from deploy.audit.audit import audit_model
from deploy.audit.simulated import Simulated, find_simulated

MODEL = """
<ir_version: 9, opset_import: ["": 20, "octavo": 1, "other": 1]>
g (float[1, 4] x) => (float[1, 4] y)
<float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}>
{
  a = octavo.Round2 (x)
  b = octavo.Round2 (a)
  c = other.Copy (b)
  y = MatMul (c, w)
}
<domain: "octavo", opset_import: ["": 20]>
Round2 (x) => (y) { y = Round (x) }
<domain: "octavo", opset_import: ["": 20]>
Unused (x) => (y) { y = Floor (x) }
<domain: "other", opset_import: ["": 20]>
Copy (x) => (y) { y = Identity (x) }
"""


@pytest.fixture
def model() -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(MODEL)
    parsed.graph.node[0].name = "blocks.0.norm1/Round2"
    parsed.graph.node[1].name = "blocks.1.norm1/Round2"
    return parsed


def test_calls_of_the_domain_are_found_with_their_modules(model: onnx.ModelProto) -> None:
    assert find_simulated(model) == (Simulated("Round2", ("blocks.0.norm1", "blocks.1.norm1")),)


def test_the_audit_lists_and_notes_them(model: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(model, tmp_path / "m.onnx")
    report = audit_model(tmp_path / "m.onnx")
    assert [item.op for item in report.simulated] == ["Round2"]
    assert report.to_dict()["simulated"] == [
        {"op": "Round2", "modules": ["blocks.0.norm1", "blocks.1.norm1"]}
    ]
    (note,) = [note for note in report.notes if note.startswith("simulated")]
    assert "2 Round2 (blocks.0.norm1, blocks.1.norm1)" in note


def test_other_models_have_none(model: onnx.ModelProto, tmp_path: Path) -> None:
    del model.functions[:2], model.graph.node[:2]
    model.graph.node[0].input[0] = "x"
    onnx.save(model, tmp_path / "m.onnx")
    report = audit_model(tmp_path / "m.onnx")
    assert report.simulated == ()
    assert not any(note.startswith("simulated") for note in report.notes)
