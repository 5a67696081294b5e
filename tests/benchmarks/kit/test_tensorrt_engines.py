"""Engines of a kit: which ones fit is the rule of the rest of Octavo, and TensorRT-RTX builds them here."""

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

from benchmarks.kit import measure_tensorrt as module
from deploy.tensorrt.cache import EngineCache, Identity
from deploy.tensorrt.device import Device
from deploy.tensorrt.library import Library
from deploy.tensorrt.manifest import check_fits, read_manifest
from deploy.tensorrt.settings import EngineSettings
from quant.errors import BadInput
from tests.deploy.tensorrt.conftest import save_linear

H100 = {"name": "NVIDIA H100", "compute": "SM90", "library": "tensorrt", "version": "11.4.0"}
FAKE = Path(__file__).with_name("fakes") / "tensorrt.py"


@pytest.mark.parametrize("version", ["11.4.0", "11.3.0", "11.5.0", "10.9.0"])
@pytest.mark.parametrize(
    "device", ["NVIDIA H100 (SM90)", "NVIDIA A10 (SM86)", "Tesla T4 (SM75)", None], ids=str
)
@pytest.mark.parametrize(
    "settings",
    [
        EngineSettings(),
        EngineSettings(version_compatible=True),
        EngineSettings(hardware_compatible=True),
        EngineSettings(compute=("SM89", "SM120")),
        EngineSettings(compute=("SM90",)),
    ],
    ids=range(5),
)
def test_the_rule_which_engines_fit_is_that_of_running_them(
    settings: EngineSettings, device: str | None, version: str, tmp_path: Path
) -> None:
    identity = Identity("0" * 64, "tensorrt", version, device, settings)
    plan = EngineCache(tmp_path).get(identity, lambda plan: plan.write_bytes(b"engine")).plan
    library = Library("tensorrt", "TensorRT", H100["version"], None)  # type: ignore[arg-type]
    refused = ""
    try:
        check_fits(read_manifest(plan), library, Device(H100["name"], H100["compute"], 80000))
    except BadInput as error:
        refused = str(error)
    assert bool(module.unfit(plan.with_suffix(".json"), H100, 1)) == bool(refused), refused


def test_an_engine_must_take_the_batches_that_are_measured(tmp_path: Path) -> None:
    identity = Identity("0" * 64, "tensorrt", "11.4.0", None, EngineSettings(batches=(1, 4, 8)))
    plan = EngineCache(tmp_path).get(identity, lambda plan: plan.write_bytes(b"engine")).plan
    manifest = plan.with_suffix(".json")
    assert [module.unfit(manifest, H100, batch) for batch in (1, 8)] == ["", ""]
    assert module.unfit(manifest, H100, 16) == "takes batches of 1 to 8; 1 to 16 are measured"
    assert "is of tensorrt, here is tensorrt_rtx" in module.unfit(
        manifest, {**H100, "library": "tensorrt_rtx"}, 1
    )


def test_python_3_9_can_read_it() -> None:
    ast.parse(inspect.getsource(module), feature_version=(3, 9))


@pytest.fixture
def builds(rtx: Library, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file, of which TensorRT-RTX is all that is installed."""
    monkeypatch.setattr(module, "LIBRARIES", {"tensorrt_rtx": (rtx.module.__name__,)})
    return module


@pytest.mark.parametrize("batch", ["N", 4], ids=["open batch", "fixed batch"])
def test_tensorrt_rtx_builds_by_the_same_calls(batch: Any, builds: Any, rtx: Library, tmp_path: Path) -> None:
    model, plan = tmp_path / "model.onnx", tmp_path / "model.plan"
    save_linear(model, batch)
    assert builds.build(model, plan, [1, 2, 8])["seconds"] > 0
    assert rtx.module.Runtime(module._logger(rtx.module)).engine_header_size < plan.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.plan"]


def test_what_tensorrt_rtx_refuses_is_told_in_its_words(builds: Any, tmp_path: Path) -> None:
    model, plan = tmp_path / "model.onnx", tmp_path / "model.plan"
    model.write_bytes(b"no model")
    with pytest.raises(module.Failed, match=r"^tensorrt_rtx [\d.]+ cannot read it: .*[Pp]arse"):
        builds.build(model, plan, [1, 1, 1])
    save_linear(model, "N")
    broken = onnx.load(model)
    broken.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(broken, model)
    with pytest.raises(module.Failed, match=r"cannot read it: 'fc/MatMul' \(NoSuchOperator\)"):
        builds.build(model, plan, [1, 1, 1])
    assert not plan.exists()


def test_tensorrt_has_the_calls_that_are_made_of_it(rtx: Library) -> None:
    """Of the stand-in's classes everything, and every word that is asked of an object of the library."""
    trt, found = rtx.module, 0
    for kind in (node for node in ast.parse(FAKE.read_text()).body if isinstance(node, ast.ClassDef)):
        real = getattr(trt, kind.name)
        for part in kind.body:
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                assert hasattr(real, part.name), f"{kind.name}.{part.name}"
                found += 1
    assert found > 20
    own = {*vars(module.Engine), "input", "outputs", "logger", "numpy", "cuda", "primary"}
    asked = set(
        re.findall(
            r"(?:trt|self\.engine|self\.context|self\.runtime|builder|parser|profile|config)\.(\w+)",
            inspect.getsource(module),
        )
    )
    kinds = (trt, trt.ICudaEngine, trt.IExecutionContext, trt.Runtime, trt.Builder, trt.OnnxParser)
    kinds += (trt.IOptimizationProfile, trt.IBuilderConfig)
    assert len(asked) > 20
    assert not [name for name in asked - own if not any(hasattr(kind, name) for kind in kinds)]
    for name in ("desc", "node_name", "node_operator"):
        assert hasattr(trt.ParserError, name)
