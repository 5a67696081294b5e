"""The OpenVINO runner; what needs OpenVINO is skipped where it is not installed."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from deploy.onnxruntime.run import OrtRunner
from deploy.openvino.build import CompileSettings, compile_model
from deploy.openvino.run import OpenVinoRunner
from deploy.runner import Runner
from quant.errors import BadInput, InternalError, Unsupported

TWO_INPUTS = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[N, 3] a, float[N, 3] b) => (float[N, 3] total, float[N, 3] soft)
{ total = Add(a, b)  soft = Softmax(total) }
"""
GOOD = np.zeros((1, 3), np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(TWO_INPUTS), path)
    return path


@pytest.fixture
def openvino() -> Any:
    return pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'octavo[openvino]'")


def test_without_openvino_one_is_told_how_to_install_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(Unsupported, match=r"pip install 'octavo\[openvino\]'"), OpenVinoRunner(model):
        pass


def test_its_modules_import_nothing_heavier_than_numpy() -> None:
    code = (
        "import sys, deploy.openvino.run, deploy.openvino.build\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & "
        "{'torch', 'onnx', 'onnxruntime', 'openvino', 'pydantic', 'timm', 'scipy', 'rich'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("settings", [CompileSettings(threads=0), CompileSettings(streams=0)])
def test_settings_out_of_range_are_bad_input(model: Path, settings: CompileSettings) -> None:
    with pytest.raises(BadInput, match="must be at least 1"):
        compile_model(model, settings)


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.xml: cannot be read: no such file"):
        compile_model(tmp_path / "gone.xml")


class _Fake(ModuleType):
    """As much of OpenVINO as is needed to refuse a thread count, as it does with too few cores."""

    __version__ = "0"

    class Core:
        available_devices = ("CPU",)

        def read_model(self, path: Path) -> Path:
            return path

        def compile_model(self, model: Path, device: str, properties: dict[str, str]) -> Any:
            del model, device
            self.given = properties
            return self

        def get_property(self, name: str) -> Any:
            return 1 if name == "INFERENCE_NUM_THREADS" else int(self.given[name])


def test_a_setting_that_is_not_taken_is_not_passed_over(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", _Fake("openvino"))
    with pytest.raises(Unsupported, match="took 1 for INFERENCE_NUM_THREADS, not 64"):
        compile_model(model, CompileSettings(threads=64))
    with pytest.raises(Unsupported, match="no device 'GPU' here; it has: CPU"):
        compile_model(model, CompileSettings(device="GPU"))


def test_it_answers_like_onnxruntime(openvino: Any, model: Path) -> None:
    del openvino
    rng = np.random.default_rng(0)
    runner: Runner = OpenVinoRunner(model)
    with runner, OrtRunner(model) as reference:
        for count in (1, 7):
            feeds = {name: rng.standard_normal((count, 3), dtype=np.float32) for name in ("b", "a")}
            found, expected = runner.infer(feeds), reference.infer(feeds)
            assert set(found) == {"total", "soft"}
            for name, value in found.items():
                # float32 in both; only the order of the sum inside softmax differs.
                np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-7)


def test_outputs_are_the_callers_own(openvino: Any, model: Path) -> None:
    del openvino
    with OpenVinoRunner(model) as runner:
        first = runner.infer({"a": GOOD, "b": GOOD})["total"]
        runner.infer({"a": GOOD + 1, "b": GOOD})
    np.testing.assert_array_equal(first, GOOD)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"a": GOOD}, "inputs are a, b; given: a"),
        ({"a": GOOD, "b": GOOD.astype(np.float64)}, "'b': given float64, the model expects float32"),
        ({"a": GOOD, "b": np.zeros((1, 4), np.float32)}, r"'b': given shape \[1, 4\]"),
        ({"a": np.zeros(3, np.float32), "b": GOOD}, r"'a': given shape \[3\]"),
    ],
)
def test_feeds_that_do_not_fit_are_bad_input(
    openvino: Any, model: Path, feeds: dict[str, np.ndarray], message: str
) -> None:
    del openvino
    with OpenVinoRunner(model) as runner, pytest.raises(BadInput, match=message):
        runner.infer(feeds)


def test_threads_and_precision_reach_the_compiled_model(openvino: Any, model: Path) -> None:
    del openvino
    with OpenVinoRunner(model, CompileSettings(threads=1)) as runner:
        assert runner.compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert runner.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
        assert runner.input_names == ("a", "b")
        assert runner.output_names == ("total", "soft")


def test_a_file_that_is_no_model_is_bad_input(openvino: Any, tmp_path: Path) -> None:
    del openvino
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(BadInput, match=r"bad\.onnx: OpenVINO .* cannot read it"):
        compile_model(tmp_path / "bad.onnx")


def test_outside_its_block_it_is_a_bug() -> None:
    with pytest.raises(InternalError, match="outside its `with` block"):
        _ = OpenVinoRunner(Path("m.xml")).compiled
