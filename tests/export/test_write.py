"""Files are whole and valid, or absent."""

import os
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from export.write import check_model, write_model
from quant.errors import InternalError

GOOD = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
BAD = {
    "type": "g (float[N,4] x) => (int8[N,4] y) { y = Relu(x) }",
    "shape": "g (float[N,4] x) => (float[N,5] y) { y = Relu(x) }",
    "undefined input": "g (float[N,4] x) => (float[N,4] y) { y = Add(x, z) }",
    "unknown operator": "g (float[N,4] x) => (float[N,4] y) { y = NoSuchOperator(x) }",
}


def proto(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')


@pytest.mark.parametrize("case", BAD)
def test_an_invalid_model_is_an_internal_error_and_leaves_no_file(case: str, tmp_path: Path) -> None:
    with pytest.raises(InternalError, match=r"m\.onnx is not valid ONNX"):
        check_model(proto(BAD[case]), "m.onnx")
    if case != "undefined input":  # which the in-memory form cannot hold
        with pytest.raises(InternalError, match=r"m\.onnx is not valid ONNX"):
            write_model(ir.from_proto(proto(BAD[case])), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_an_older_file_survives_a_refused_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write_model(ir.from_proto(proto(GOOD)), path)
    before = path.read_bytes()
    with pytest.raises(InternalError):
        write_model(ir.from_proto(proto(BAD["type"])), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("failing", ["write", "rename"])
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(
    failing: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def interrupted(self: Path, data: bytes) -> int:
        real(self, data[: len(data) // 2])
        raise error

    def refused(*_: object) -> None:
        raise error

    if failing == "write":
        monkeypatch.setattr(Path, "write_bytes", interrupted)
    else:
        monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(type(error)):
        write_model(ir.from_proto(proto(GOOD)), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_signed_and_reads_back(tmp_path: Path) -> None:
    write_model(ir.from_proto(proto(GOOD)), tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    model = onnx.load(tmp_path / "m.onnx")
    assert model.producer_name == "octavo"
    assert [n.op_type for n in model.graph.node] == ["Relu"]
