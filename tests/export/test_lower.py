"""Each target gets its own number formats and the graph that its runtime executes best."""

import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from export.lower import lower
from export.targets import GUARDS, TARGETS, get_target
from quant.encoding import ActivationCodes, WeightGuard
from quant.errors import BadInput
from tests.export.small_models import Served, run


def stored(path: Path) -> dict[str, np.ndarray]:
    return {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("vnni", [False, True])
def test_guard_words(vnni: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.targets.has_vnni", lambda: vnni)
    guards = {word: get_target("ort-x86").encoding(word).guard for word in GUARDS}
    assert guards == {
        "auto": WeightGuard.NONE if vnni else WeightGuard.PAIRS,
        "on": WeightGuard.PAIRS,
        "off": WeightGuard.NONE,
        "seven_bits": WeightGuard.SEVEN_BITS,
    }
    for name in ("ort-arm64", "tensorrt", "tensorrt8"):
        assert {get_target(name).encoding(word).guard for word in GUARDS} == {WeightGuard.NONE}


def test_unknown_words_are_bad_input_with_the_known_ones(vit: Served, tmp_path: Path) -> None:
    for target in TARGETS.values():
        with pytest.raises(BadInput, match=r"'maybe' is unknown.*auto, on, off, seven_bits"):
            lower(vit.qdq, vit.calibrated, target, tmp_path / "m.onnx", {}, "maybe")
    with pytest.raises(BadInput, match="'ort-mips'; known: ort-x86, ort-arm64, tensorrt, tensorrt8"):
        get_target("ort-mips")
    assert not list(tmp_path.iterdir())


def test_only_x86_runs_here_and_only_on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, expected in (("x86_64", {"ort-x86"}), ("AMD64", {"ort-x86"}), ("aarch64", set())):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert {t.name for t in TARGETS.values() if t.runs_here} == expected


def test_seven_bits_and_the_pair_guard_change_only_what_they_say(vit: Served, tmp_path: Path) -> None:
    codes = {}
    for word, guard, rows in (("off", "none", 0.0), ("on", "pairs", None), ("seven_bits", "seven_bits", 1.0)):
        path = tmp_path / f"{word}.onnx"
        report = lower(vit.qdq, vit.calibrated, get_target("ort-x86"), path, {}, word)
        assert report.to_dict()["guard"] == report.guard == guard
        assert rows is None or report.guarded_rows == rows
        codes[word] = {k: v for k, v in stored(path).items() if v.dtype == np.int8 and v.ndim > 1}
    widest = {word: max(int(np.abs(v.astype(int)).max()) for v in c.values()) for word, c in codes.items()}
    assert (widest["off"], widest["seven_bits"]) == (127, 63)
    assert set(codes["off"]) == set(codes["on"]) == set(codes["seven_bits"])


def test_tensorrt_gets_what_its_parser_takes(cnn: Served, vit: Served, tmp_path: Path) -> None:
    for served in (cnn, vit):
        path = tmp_path / "trt.onnx"
        lower(served.qdq, served.calibrated, get_target("tensorrt"), path, {})
        graph = onnx.load(path).graph
        arrays = stored(path)
        for node in graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                assert arrays[node.input[1]].dtype == np.float16
                assert (arrays[node.input[1]] > 0).all()
                assert len(node.input) == 2 or not arrays[node.input[2]].any()
            if node.op_type == "QuantizeLinear":
                assert arrays[node.input[2]].dtype == np.int8
        kinds = {i.data_type for i in graph.initializer}
        # no int32 bias, no unsigned codes, no float32
        assert kinds <= {TensorProto.INT8, TensorProto.FLOAT16, TensorProto.INT64}
        ends = {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
        assert ends == {TensorProto.FLOAT}


def test_tensorrt_does_not_quantize_what_convolutions_return(cnn: Served, tmp_path: Path) -> None:
    report = lower(cnn.qdq, cnn.calibrated, get_target("tensorrt"), tmp_path / "trt.onnx", {})
    dropped = {note.node for note in report.notes if "dropped" in note.text}
    outputs = {s.name for s in cnn.calibrated.activation_sites() if set(s.roles) == {"conv.output"}}
    assert outputs
    assert dropped == outputs
    assert outputs.isdisjoint(report.frozen)
    assert not [n for n in stored(tmp_path / "trt.onnx") if n.rpartition(".")[0] in outputs]


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_arm_is_x86_without_guard_in_signed_codes(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    served: Served = request.getfixturevalue(kind)
    x86, arm = tmp_path / "x86.onnx", tmp_path / "arm.onnx"
    lower(served.qdq, served.calibrated, get_target("ort-x86"), x86, {}, "off")
    lower(served.qdq, served.calibrated, get_target("ort-arm64"), arm, {})
    zeros = {k: v for k, v in stored(arm).items() if k.endswith(".input.zero_point")}
    assert zeros
    assert all(v.dtype == np.int8 for v in zeros.values())
    assert all(int(v) == int(stored(x86)[k]) - 128 for k, v in zeros.items())
    np.testing.assert_array_equal(run(arm, served.images), run(x86, served.images))


@pytest.mark.parametrize("target", TARGETS)
def test_the_lowered_file_computes_the_graph_that_is_left_quantizing(
    target: str, cnn: Served, tmp_path: Path
) -> None:
    """ort: float32 and the int32 bias of the head; tensorrt: float16."""
    path = tmp_path / "m.onnx"
    lower(cnn.qdq, cnn.calibrated, get_target(target), path, {})
    with torch.no_grad():
        expected = cnn.calibrated.graph(cnn.images).numpy()
    tolerance = 1e-2 if target == "tensorrt" else 1e-3
    assert np.abs(run(path, cnn.images) - expected).max() <= tolerance * np.abs(expected).max()


def test_a_broken_file_is_bad_input(vit: Served, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(vit.qdq.read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"broken\.onnx is not a readable ONNX file"):
        lower(broken, vit.calibrated, get_target("ort-x86"), tmp_path / "m.onnx", {})
    assert not (tmp_path / "m.onnx").exists()


def test_codes_follow_the_target() -> None:
    codes = {name: target.encoding("off").activations for name, target in TARGETS.items()}
    assert codes == {
        "ort-x86": ActivationCodes.UNSIGNED,
        "ort-arm64": ActivationCodes.SIGNED,
        "tensorrt": ActivationCodes.SIGNED_SYMMETRIC,
        "tensorrt8": ActivationCodes.SIGNED_SYMMETRIC,
    }
