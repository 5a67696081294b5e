"""Execution providers by name, and no silent way to the CPU.

The plain wheel of ONNX Runtime has one provider besides the CPU's: Azure's, which takes no node of ours.
"""

from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import parser

from deploy.onnxruntime import providers
from deploy.onnxruntime.build import SessionSettings, build_session, settings_from, settings_to
from deploy.onnxruntime.providers import PROVIDERS, check_available, full_names
from deploy.onnxruntime.run import OrtRunner
from deploy.pipeline.config import BenchConfig
from quant.errors import BadInput, Unsupported

AZURE = "AzureExecutionProvider"
CPU = "CPUExecutionProvider"
FIVE_NODES = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[2, 2] x) => (float[2, 2] y) {
    [one] a = Relu(x)  [two] b = Exp(a)  [three] c = Tanh(b)  [four] d = Softmax(c)  [five] y = Sin(d)
}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(FIVE_NODES), path)
    return path


@pytest.mark.parametrize("short", PROVIDERS)
def test_a_short_name_means_the_full_one_in_settings_and_configuration(short: str) -> None:
    full = PROVIDERS[short].name
    assert full in onnxruntime.get_all_providers()
    assert SessionSettings(providers=(short,)) == SessionSettings(providers=(full,))
    assert settings_to(settings_from({"providers": [short]}))["providers"] == [full]
    assert BenchConfig(providers=(short,)) == BenchConfig(providers=(full,))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("openvno",),
            "unknown execution provider 'openvno'; known: cpu, cuda, .*, openvino",
        ),
        (("cpu", CPU), "named twice"),
        ((), "name at least one of cpu"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        full_names(names)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("cuda", "onnxruntime-gpu"),
        ("tensorrt", "onnxruntime-gpu .*TensorRT's libraries"),
        ("tensorrt_rtx", "onnxruntime-ep-nv-tensorrt-rtx"),
        ("openvino", "onnxruntime-ep-openvino"),
    ],
)
def test_what_is_not_installed_says_what_to_install(name: str, package: str, model: Path) -> None:
    if PROVIDERS[name].name in onnxruntime.get_available_providers():
        pytest.skip(f"{name} is installed here")
    with pytest.raises(Unsupported, match=rf"pip install {package}.*available in ONNX Runtime .*{CPU}"):
        build_session(model, SessionSettings(providers=(name,)))


def test_a_plug_in_that_cannot_be_loaded_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "plugin.so"
    library.write_bytes(b"no library")
    (tmp_path / "onnxruntime_ep_openvino.py").write_text(
        f"def get_library_path():\n    return {str(library)!r}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    providers._register.cache_clear()
    with pytest.raises(Unsupported, match=r"onnxruntime_ep_openvino cannot be loaded: .*plugin\.so"):
        check_available(full_names(["openvino"]))
    providers._register.cache_clear()


def test_nodes_that_would_fall_to_the_cpu_are_an_error_that_names_them(model: Path) -> None:
    with pytest.raises(Unsupported) as caught:
        build_session(model, SessionSettings(providers=(AZURE,)))
    assert str(caught.value) == (
        f"{model}: 5 of 5 nodes would run on the CPU: Relu 'one', Exp 'two', Tanh 'three' and 2 more; "
        "AzureExecutionProvider cannot run them; add `cpu` to `providers` to allow that"
    )


def test_with_the_cpu_in_the_list_they_run_there(model: Path) -> None:
    feeds = {"x": onnx.numpy_helper.to_array(onnx.helper.make_tensor("x", 1, [2, 2], [1, 2, 3, 4]))}
    with OrtRunner(model, SessionSettings(providers=(AZURE, "cpu"))) as both, OrtRunner(model) as plain:
        assert both.session.get_providers() == [AZURE, CPU]
        assert (both.infer(feeds)["y"] == plain.infer(feeds)["y"]).all()


def test_the_question_which_nodes_they_are_writes_no_files(model: Path) -> None:
    beside = {"optimized_model_path": model.parent / "o.onnx", "profile_prefix": model.parent / "profile"}
    with pytest.raises(Unsupported, match="5 of 5 nodes"):
        build_session(model, SessionSettings(providers=(AZURE,), **beside))
    assert [path.name for path in model.parent.iterdir() if path.suffix == ".onnx"] == ["m.onnx"]


def test_a_broken_model_is_told_as_such_on_any_provider(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-10])
    with pytest.raises(BadInput, match="cannot load it"):
        build_session(model, SessionSettings(providers=(AZURE,)))
