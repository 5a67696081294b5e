import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from quant.errors import BadInput, Unsupported

IDENTITY_AND_RELU = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[N, 4] x) => (float[N, 4] y) { h = Identity(x)  k = Identity(h)  y = Relu(k) }
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(IDENTITY_AND_RELU), path)
    return path


def test_threads_providers_and_config_reach_the_session(model: Path) -> None:
    session = build_session(
        model,
        SessionSettings(intra_op_threads=2, inter_op_threads=3, config={"session.x64quantprecision": "1"}),
    )
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 3)
    assert options.get_session_config_entry("session.x64quantprecision") == "1"
    assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(("level", "nodes"), [(Optimization.OFF, 3), (Optimization.ALL, 1)])
def test_the_optimization_level_decides_which_graph_runs(
    model: Path, level: Optimization, nodes: int
) -> None:
    saved = model.with_name("optimized.onnx")
    build_session(model, SessionSettings(optimization=level, optimized_model_path=saved))
    assert len(onnx.load(saved).graph.node) == nodes


def test_a_disabled_optimizer_is_left_out(tmp_path: Path) -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[2, 3, 4] x) => (float[2, 3, 4] y)
    <float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float[4] b = {1,2,3,4}>
    { h = MatMul(x, w)  y = Add(h, b) }
    """
    path, saved = tmp_path / "m.onnx", tmp_path / "o.onnx"
    onnx.save(parser.parse_model(text), path)
    ops = []
    for disabled in ((), ("MatMulAddFusion",)):
        build_session(path, SessionSettings(optimized_model_path=saved, disabled_optimizers=disabled))
        ops.append("Gemm" in {n.op_type for n in onnx.load(saved).graph.node})
    assert ops == [True, False]


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_an_unreadable_model_is_bad_input_with_its_path(model: Path, content: bytes | None) -> None:
    model.write_bytes(model.read_bytes()[:-10] if content is None else content)
    with pytest.raises(BadInput, match=r"m\.onnx"):
        build_session(model)


def test_a_missing_file_and_missing_folder_are_bad_input(model: Path) -> None:
    with pytest.raises(BadInput, match="absent"):
        build_session(model.with_name("absent.onnx"))
    with pytest.raises(BadInput, match="no_such_folder"):
        build_session(model, SessionSettings(optimized_model_path=model.parent / "no_such_folder" / "o.onnx"))


def test_a_provider_that_is_not_installed_is_refused_and_the_available_are_named(model: Path) -> None:
    absent = next(
        p for p in onnxruntime.get_all_providers() if p not in onnxruntime.get_available_providers()
    )
    with pytest.raises(Unsupported, match=f"{absent}.*available in .*: .*CPUExecutionProvider"):
        build_session(model, SessionSettings(providers=(absent, "CPUExecutionProvider")))


def test_a_provider_dropped_at_session_start_is_an_error(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda _: ["OtherProvider"])
    with pytest.raises(Unsupported, match=r"could not start CPUExecutionProvider.*OtherProvider"):
        build_session(model)


def test_an_operator_without_a_kernel_is_unsupported(tmp_path: Path) -> None:
    text = '<ir_version: 9, opset_import: ["" : 17]> g (double[2] x) => (double[2] y) { y = Asin(x) }'
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(text), path)
    with pytest.raises(Unsupported, match=r"m\.onnx.*Asin"):
        build_session(path)


def test_zero_threads_are_refused(model: Path) -> None:
    with pytest.raises(BadInput, match="threads"):
        build_session(model, SessionSettings(intra_op_threads=0))


def test_the_package_does_not_shadow_onnxruntime() -> None:
    root = Path(__file__).parents[2]
    code = (
        "import deploy.onnxruntime.run, deploy.onnxruntime, onnxruntime;"
        "assert deploy.onnxruntime is not onnxruntime;"
        "print(onnxruntime.InferenceSession.__module__)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.startswith("onnxruntime.")


def test_a_model_given_as_bytes_runs(model: Path) -> None:
    (y,) = build_session(model.read_bytes()).run(None, {"x": np.float32([[-1, 2, -3, 4]])})
    np.testing.assert_array_equal(y, [[0, 2, 0, 4]])
