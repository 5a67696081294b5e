"""Engines from a real builder, without a GPU."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from deploy.tensorrt.build import EngineSettings, build_plan, check_file, engine_settings
from deploy.tensorrt.child import build_apart
from deploy.tensorrt.library import Library, find_library
from quant.errors import BadInput, Unsupported
from tests.deploy.tensorrt.conftest import save_linear


def test_a_model_becomes_a_plan_and_progress_is_told(linear: Path, rtx: Library) -> None:
    told: list[tuple[str, int, int]] = []
    plan, _ = build_plan(linear, EngineSettings(), rtx, progress=lambda *a: told.append(a))
    assert len(plan) > 1000
    assert told
    assert all(0 <= done <= total for _, done, total in told)


def test_settings_reach_the_builder(linear: Path, rtx: Library) -> None:
    settings = EngineSettings(batches=(1, 4, 16), optimization_level=0, workspace_mib=64, compute=("SM89",))
    plan, _ = build_plan(linear, settings, rtx)
    assert plan
    with pytest.raises(BadInput, match=r"has no 'SM12'; it has .*SM89"):
        build_plan(linear, EngineSettings(compute=("SM12",)), rtx)


def test_an_open_size_other_than_the_batch_is_refused(tmp_path: Path, rtx: Library) -> None:
    save_linear(tmp_path / "m.onnx", "N", "K")
    with pytest.raises(BadInput, match="only the batch size may be open"):
        build_plan(tmp_path / "m.onnx", EngineSettings(), rtx)


def test_a_fixed_batch_needs_no_profile(tmp_path: Path, rtx: Library) -> None:
    save_linear(tmp_path / "m.onnx", 3)
    assert build_plan(tmp_path / "m.onnx", EngineSettings(), rtx)[0]


def test_what_the_parser_refuses_names_the_module(tmp_path: Path, rtx: Library) -> None:
    node = helper.make_node("StringNormalizer", ["x"], ["y"], name="blocks.3.text/StringNormalizer")
    graph = helper.make_graph(
        [node],
        "text",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [3])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]), tmp_path / "m.onnx")
    with pytest.raises(Unsupported, match=r"TensorRT-RTX .* cannot read it: "):
        build_plan(tmp_path / "m.onnx", EngineSettings(), rtx)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batches": [2, 1, 8]}, "fewest ≤ usual ≤ most"),
        ({"batches": [0, 1, 8]}, "at least 1"),
        ({"batches": [1, 8]}, "fewest ≤ usual ≤ most"),
        ({"optimization_level": 6}, "0 to 5, got 6"),
        ({"workspace_mib": 0}, "at least 1, got 0"),
        ({"precision": "int8"}, "unknown engine settings precision; known: batches"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        engine_settings(settings)


def test_files_that_are_no_models_are_refused(tmp_path: Path, linear: Path) -> None:
    with pytest.raises(BadInput):
        check_file(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(linear.read_bytes()[:-100])
    with pytest.raises(BadInput, match="not a valid ONNX model"):
        check_file(broken)
    broken.write_bytes(b"")
    with pytest.raises(BadInput):
        check_file(broken)


def test_an_opset_of_the_future_is_refused_which_the_builder_would_guess_at(linear: Path) -> None:
    model = onnx.load(linear)
    model.opset_import[0].version = 1000
    onnx.save(model, linear)
    with pytest.raises(BadInput, match=r"has opset 1000; export with opset \d+ or earlier"):
        check_file(linear)


def test_a_number_format_that_onnx_does_not_know_is_refused(linear: Path) -> None:
    model = onnx.load(linear)
    model.graph.initializer[0].data_type = 99
    onnx.save(model, linear)
    with pytest.raises(BadInput, match="'w' has the unknown type 99"):
        check_file(linear)


def test_a_process_of_its_own_leaves_the_same_plan_and_nothing_beside(
    linear: Path, rtx: Library, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    told: list[str] = []
    build_apart(linear, out / "engine.plan", EngineSettings(), rtx.key, progress=lambda p, *_: told.append(p))
    assert (out / "engine.plan").stat().st_size > 1000
    assert told
    assert [file.name for file in out.iterdir()] == ["engine.plan"]


def test_errors_come_back_as_they_were(linear: Path, rtx: Library, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no 'SM12'"):
        build_apart(linear, tmp_path / "p", EngineSettings(compute=("SM12",)), rtx.key)
    with pytest.raises(BadInput, match=r"took longer than 0\.01 s"):
        build_apart(linear, tmp_path / "p", EngineSettings(), rtx.key, timeout_s=0.01)
    assert not (tmp_path / "p").exists()


def test_a_crash_ends_the_child_alone(linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "tensorrt_rtx.py"
    crashing.write_text(
        "import os, signal\n__version__ = '0'\nOnnxParser = ILogger = object\n"
        "class Builder:\n    def __init__(self, *_):\n        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "class ILogger:\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Unsupported, match="ended by SIGSEGV; the library crashed on it"):
        build_apart(linear, tmp_path / "p", EngineSettings(), "tensorrt_rtx")
    assert not (tmp_path / "p").exists()


def test_a_builder_ends_with_the_process_that_wanted_its_engine(linear: Path, tmp_path: Path) -> None:
    (tmp_path / "tensorrt_rtx.py").write_text(
        "import os, pathlib, time\n__version__ = '0'\nOnnxParser = object\nclass ILogger:\n    pass\n"
        "class Builder:\n    def __init__(self, *_):\n"
        f"        pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()) + '.')\n"
        "        time.sleep(60)\n"
    )
    code = (
        "import sys\nfrom pathlib import Path\nfrom deploy.tensorrt.build import EngineSettings\n"
        "from deploy.tensorrt.child import build_apart\n"
        "build_apart(Path(sys.argv[1]), Path(sys.argv[2]), EngineSettings(), 'tensorrt_rtx')\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(linear), str(tmp_path / "p")], env=os.environ | {"PYTHONPATH": path}
    )
    try:
        pid = _until(lambda: (tmp_path / "pid").read_text(), lambda text: text.endswith("."))
    finally:
        parent.kill()
        parent.wait()
    status = Path(f"/proc/{pid[:-1]}/status")
    _until(lambda: status.read_text() if status.exists() else "", lambda said: not said or "(zombie)" in said)


def test_a_child_that_never_reads_its_order_is_told_in_one_line(
    linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.tensorrt.child.sys.executable", shutil.which("false"))
    with pytest.raises(Unsupported, match="ended with status 1; the library crashed on it"):
        build_apart(linear, tmp_path / "p", EngineSettings(), "tensorrt_rtx")


def test_a_library_that_is_not_there_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="unknown library 'openvino'; known: tensorrt, tensorrt_rtx"):
        find_library("openvino")
    monkeypatch.setattr("deploy.tensorrt.library.importlib.import_module", _missing)
    with pytest.raises(Unsupported, match=r"TensorRT-RTX is not installed: pip install 'octavo\[rtx\]'"):
        find_library("tensorrt_rtx")
    with pytest.raises(Unsupported, match="TensorRT and TensorRT-RTX are not installed"):
        find_library()


def _until(ask: Callable[[], str], good: Callable[[str], bool]) -> str:
    """What ``ask`` says as soon as it is good."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(OSError):
            said = ask()
            if good(said):
                return said
        time.sleep(0.02)
    raise AssertionError("it did not come true")


def _missing(name: str) -> None:
    raise ImportError(name)
