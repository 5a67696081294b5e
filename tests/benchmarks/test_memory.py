import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import benchmarks
from benchmarks.memory import measure_memory
from benchmarks.memory_probe import main, probe, read_status
from deploy.onnxruntime.build import SessionSettings
from quant.errors import BadInput

ROOT = Path(benchmarks.__file__).parents[1]


def save_linear(path: Path, width: int, batch: int | str = "batch") -> Path:
    """A square matrix product with ``width``² float32 weights."""
    weight = np.random.default_rng(0).normal(size=(width, width)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, width])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def test_larger_weights_cost_more_by_about_their_size(tmp_path: Path) -> None:
    small = measure_memory(save_linear(tmp_path / "small.onnx", 64), SessionSettings(), repeats=1)
    large = measure_memory(save_linear(tmp_path / "large.onnx", 2048), SessionSettings(), repeats=3)
    # 2048² float32 are 16 MiB. They are held at least once (1 MiB for the pages of the
    # small model), and while loading at most a few times over.
    assert large.load_delta_mib - small.load_delta_mib >= 15
    assert large.peak_delta_mib - small.peak_delta_mib < 16 * 6
    assert large.imported_mib < large.loaded_mib <= large.peak_mib
    assert large.peak_mib == sorted(large.peaks_mib)[1]
    assert large.peak_delta_mib == pytest.approx(large.peak_mib - large.imported_mib)


def test_the_probe_imports_no_training_framework() -> None:
    code = (
        "import sys, benchmarks.memory_probe\n"
        "print([m for m in ('torch', 'timm', 'onnx', 'pydantic', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_peak_remembers_what_was_freed(tmp_path: Path) -> None:
    model = save_linear(tmp_path / "m.onnx", 64)
    ballast = np.ones(200 * 2**20, np.uint8)
    del ballast
    figures = probe(model, SessionSettings(), batch=1)
    # The 200 MiB are gone by then; other tests may only have raised the peak further.
    assert figures["peak_mib"] > figures["first_mib"] + 150


def test_the_peak_of_the_parent_is_not_inherited(tmp_path: Path) -> None:
    ballast = np.ones(40 * 2**20 // 8 * 10)  # 400 MiB, resident here
    measured = measure_memory(save_linear(tmp_path / "m.onnx", 64), SessionSettings(), repeats=1)
    assert ballast.size > 0
    assert measured.peak_mib < 300


def test_a_broken_model_is_the_users_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(BadInput, match=r"broken\.onnx"):
        measure_memory(broken, SessionSettings())


def test_a_fixed_batch_cannot_be_measured_with_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_linear(tmp_path / "fixed.onnx", 8, batch=2)
    assert main([str(model), "--batch", "1"]) == 2
    assert "fixed to 2" in capsys.readouterr().err


def test_status_is_read_in_mib(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t  2048 kB\n")
    assert read_status("VmHWM", status) == 2.0
    with pytest.raises(BadInput, match="VmRSS"):
        read_status("VmRSS", status)
