import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from benchmarks.peers.process import PeerFailed
from benchmarks.peers.remote import RemoteRunner
from deploy.onnxruntime.run import OrtRunner
from deploy.runner import Runner
from quant.errors import InternalError

TWO_OUTPUTS = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[N, 3] x) => (float[N, 3] double, float[N, 3] root)
{ double = Add(x, x)  root = Sqrt(x) }
"""
PYTHON = Path(sys.executable)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(TWO_OUTPUTS), path)
    return path


def test_a_model_in_another_process_answers_as_in_ours(model: Path) -> None:
    runner: Runner = RemoteRunner(PYTHON, "onnxruntime", model, {"intra_op_threads": 1})
    rng = np.random.default_rng(0)
    with runner, OrtRunner(model) as here:
        for count in (1, 4, 1000):
            feeds = {"x": rng.random((count, 3), dtype=np.float32)}
            there, expected = runner.infer(feeds), here.infer(feeds)
            assert set(there) == {"double", "root"}
            for name, value in there.items():
                np.testing.assert_array_equal(value, expected[name])


def test_what_the_other_process_says_last_is_the_reason(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with (
        pytest.raises(PeerFailed, match=r"bad\.onnx: ONNX Runtime .* cannot load it"),
        RemoteRunner(PYTHON, "onnxruntime", tmp_path / "bad.onnx", {}),
    ):
        pass
    with (
        RemoteRunner(PYTHON, "onnxruntime", model, {}) as runner,
        pytest.raises(PeerFailed, match="given float64, the model expects float32"),
    ):
        runner.infer({"x": np.zeros((1, 3))})


def test_a_runtime_that_is_not_there_is_named(model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f"#!/bin/sh\necho 'No module named openvino' >&2\nexit 1\n# {PYTHON}\n")
    bare.chmod(0o755)
    with (
        pytest.raises(PeerFailed, match=r"^No module named openvino$"),
        RemoteRunner(bare, "openvino", model, {}),
    ):
        pass


def test_the_process_ends_with_the_block(model: Path) -> None:
    runner = RemoteRunner(PYTHON, "onnxruntime", model, {})
    with runner:
        process = runner._process
        assert process is not None
        assert process.poll() is None
    assert process.poll() is not None
    with pytest.raises(InternalError, match="outside its `with` block"):
        runner.infer({})
