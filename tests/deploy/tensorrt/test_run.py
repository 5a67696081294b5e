"""Engines are run as they were built for, on whatever offers memory and a stream.

The GPU here is one in NumPy; that TensorRT itself has the calls that are made of it is checked on its real
bindings.
"""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.runner import Array
from deploy.tensorrt import cuda_graph
from deploy.tensorrt.build import EngineSettings
from deploy.tensorrt.cache import EngineCache, Identity
from deploy.tensorrt.device import Device
from deploy.tensorrt.inspect import layer_information
from deploy.tensorrt.library import Library
from deploy.tensorrt.run import RunSettings, TensorRtRunner
from quant.errors import BadInput, InternalError, OctavoError, Unsupported
from tests.deploy.tensorrt.fake_gpu import (
    H100,
    FakeContext,
    FakeDriver,
    FakeEngine,
    FakeTensorRt,
    fake_machine,
)


@pytest.fixture(autouse=True)
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    module = FakeTensorRt()
    library = Library("tensorrt", "TensorRT", "11.4.0", module)
    monkeypatch.setattr("deploy.tensorrt.run.find_library", lambda _: library)
    return module


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    made = FakeDriver()
    monkeypatch.setattr(cuda_graph, "_driver", lambda: made)
    return made


def plan_of(folder: Path, **changes: Any) -> Path:
    """An engine as the cache keeps it."""
    about = {"model": "0" * 64, "library": "tensorrt", "version": "11.4.0", "device": str(H100)}
    identity = Identity(**{**about, "settings": EngineSettings(), **changes})
    return EngineCache(folder).get(identity, lambda plan: plan.write_bytes(b"engine")).plan


def images(rows: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)


def expected(x: Array) -> Array:
    return np.stack([x.sum(1), x.max(1)], axis=1)


def test_every_shape_of_the_profile_runs(tmp_path: Path) -> None:
    machine, streams = fake_machine()
    with TensorRtRunner(plan_of(tmp_path), machine=machine) as runner:
        assert (runner.input_names, runner.output_names) == (("x",), ("y",))
        for rows in (8, 1, 3, 3, 3, 8):
            x = images(rows, seed=rows)
            np.testing.assert_array_equal(runner.infer({"x": x})["y"], expected(x))
        first = runner.infer({"x": images(2, 1)})["y"]
        kept = first.copy()
        runner.infer({"x": images(2, 2)})
        np.testing.assert_array_equal(first, kept, "the answer is the caller's own")
    assert [gpu.closed for gpu in streams] == [True]
    for call in (lambda: runner.infer({"x": images(1)}), runner.layer_information):
        with pytest.raises(InternalError, match="outside its `with` block"):
            call()


def test_a_shape_that_returns_is_launched_as_one_graph(tmp_path: Path, driver: FakeDriver) -> None:
    with TensorRtRunner(plan_of(tmp_path), machine=fake_machine()[0]) as runner:
        for seed in range(4):
            x = images(2, seed)
            np.testing.assert_array_equal(runner.infer({"x": x})["y"], expected(x))
        assert driver.launches == 3, "the first call of a shape runs as it is"
        runner.infer({"x": images(5)})
        assert driver.launches == 3
        x = images(5, 9)
        np.testing.assert_array_equal(runner.infer({"x": x})["y"], expected(x))
        assert driver.launches == 4
        assert not runner.graph_note
    with TensorRtRunner(plan_of(tmp_path), RunSettings(cuda_graphs=False), fake_machine()[0]) as runner:
        for seed in range(3):
            runner.infer({"x": images(2, seed)})
    assert driver.launches == 4


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_where_nothing_can_be_recorded_it_runs_without_and_says_so(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeDriver()
    monkeypatch.setattr(driver, call, lambda *_: 900, raising=False)
    monkeypatch.setattr(cuda_graph, "_driver", lambda: driver)
    with TensorRtRunner(plan_of(tmp_path), machine=fake_machine()[0]) as runner:
        for seed in range(3):
            x = images(2, seed)
            np.testing.assert_array_equal(runner.infer({"x": x})["y"], expected(x))
        assert "CUDA error 900" in runner.graph_note
    assert driver.launches == 0


def test_calls_from_several_threads_use_several_contexts(tmp_path: Path, trt: FakeTensorRt) -> None:
    wrong: list[int] = []
    with TensorRtRunner(plan_of(tmp_path), RunSettings(contexts=2), fake_machine()[0]) as runner:

        def call(seed: int) -> None:
            for step in range(20):
                x = images(1 + (seed + step) % 8, seed)
                if not np.array_equal(runner.infer({"x": x})["y"], expected(x)):
                    wrong.append(seed)

        threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [context.runs > 0 for context in trt.engine.contexts] == [True, True]
    assert not wrong


def test_an_engine_says_what_it_is_made_of(tmp_path: Path) -> None:
    told, runtime = layer_information(plan_of(tmp_path), fake_machine()[0])
    assert told["Layers"][0]["Inputs"] == [{"Dimensions": [8, 4]}], "types are told for given shapes only"
    assert runtime == "TensorRT 11.4.0"
    for content in (b"{", b"[]"):
        (tmp_path / "layers.json").write_bytes(content)
        with pytest.raises(BadInput, match=r"layers\.json: is n"):
            layer_information(tmp_path / "layers.json")
    with pytest.raises(BadInput, match="cannot be read"):
        layer_information(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({}, "inputs are x; given: none"),
        ({"x": images(1), "z": images(1)}, "inputs are x; given: x, z"),
        ({"x": images(1).astype(np.float64)}, "given float64, the engine expects float32"),
        ({"x": images(9)}, r"given shape \[9, 4\], the engine takes \[1, 4\] to \[8, 4\]"),
        ({"x": images(1)[0]}, r"given shape \[4\]"),
        ({"x": np.zeros((1, 5), np.float32)}, r"given shape \[1, 5\]"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(feeds: dict[str, Array], said: str, tmp_path: Path) -> None:
    with (
        TensorRtRunner(plan_of(tmp_path), machine=fake_machine()[0]) as runner,
        pytest.raises(BadInput, match=said),
    ):
        runner.infer(feeds)


ANOTHER = Device("NVIDIA A10", "SM86", 24000)
TURING = Device("Tesla T4", "SM75", 16000)


@pytest.mark.parametrize(
    ("changes", "device", "said"),
    [
        ({}, ANOTHER, r"was built on NVIDIA H100 \(SM90\), this GPU is NVIDIA A10 \(SM86\)"),
        ({"version": "11.3.0"}, H100, "was built with TensorRT 11.3.0, installed is 11.4.0"),
        (
            {"version": "11.5.0", "settings": EngineSettings(version_compatible=True)},
            H100,
            "was built with TensorRT 11.5.0",
        ),
        (
            {"version": "10.9.0", "settings": EngineSettings(version_compatible=True)},
            H100,
            "was built with TensorRT 10.9.0",
        ),
        ({"settings": EngineSettings(hardware_compatible=True)}, TURING, "this GPU is Tesla T4"),
        (
            {"device": None, "settings": EngineSettings(compute=("SM89", "SM120"))},
            H100,
            "was built for SM89, SM120, .* build it again with --compute SM90",
        ),
    ],
)
def test_an_engine_for_something_else_never_reaches_the_library(
    changes: dict[str, Any], device: Device, said: str, tmp_path: Path, trt: FakeTensorRt
) -> None:
    machine, streams = fake_machine(device)
    with pytest.raises(BadInput, match=said), TensorRtRunner(plan_of(tmp_path, **changes), machine=machine):
        pass
    assert trt.deserialized == 0
    assert not streams


@pytest.mark.parametrize(
    ("changes", "device"),
    [
        ({"settings": EngineSettings(hardware_compatible=True)}, ANOTHER),
        ({"version": "11.2.9", "settings": EngineSettings(version_compatible=True)}, H100),
        ({"device": None, "settings": EngineSettings(compute=("SM90",))}, H100),
        ({"device": None}, TURING),
    ],
)
def test_compatible_engines_run(changes: dict[str, Any], device: Device, tmp_path: Path) -> None:
    with TensorRtRunner(plan_of(tmp_path, **changes), machine=fake_machine(device)[0]) as runner:
        x = images(3)
        np.testing.assert_array_equal(runner.infer({"x": x})["y"], expected(x))


def test_damaged_engines_never_reach_the_library(tmp_path: Path, trt: FakeTensorRt) -> None:
    plan = plan_of(tmp_path)
    manifest = plan.with_suffix(".json")
    told, machine = json.loads(manifest.read_text()), fake_machine()[0]
    damaged = [
        (plan, b"engine!", "is not the engine that engine.json describes"),
        (plan, None, "does not exist"),
        (manifest, None, "does not exist"),
        (manifest, b"{", "is not the manifest of an engine"),
        (manifest, b"[]", "is not the manifest of an engine"),
        (manifest, json.dumps({**told, "library": "other"}).encode(), "is not the manifest"),
        (manifest, json.dumps({**told, "settings": {"batches": 3}}).encode(), "is not the manifest"),
        (manifest, json.dumps({**told, "device": 7}).encode(), "is not the manifest"),
    ]
    for file, content, said in damaged:
        whole = file.read_bytes()
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        with pytest.raises(BadInput, match=said), TensorRtRunner(plan, machine=machine):
            pass
        file.write_bytes(whole)
    assert trt.deserialized == 0


def test_what_the_library_or_the_gpu_refuses_is_told_and_everything_released(
    tmp_path: Path, trt: FakeTensorRt
) -> None:
    plan = plan_of(tmp_path)
    machine, streams = fake_machine(memory_limit=100)
    with pytest.raises(Unsupported, match="not enough memory"), TensorRtRunner(plan, machine=machine):
        pass
    assert [gpu.closed for gpu in streams] == [True]
    trt.engine.broken = True
    with TensorRtRunner(plan, machine=fake_machine()[0]) as runner:
        for _ in range(3):
            with pytest.raises(Unsupported, match="TensorRT could not run the engine"):
                runner.infer({"x": images(1)})
        trt.engine.broken = False
        np.testing.assert_array_equal(runner.infer({"x": images(1)})["y"], expected(images(1)))
    trt.loads = False
    machine, streams = fake_machine()
    with pytest.raises(Unsupported, match="cannot load it"), TensorRtRunner(plan, machine=machine):
        pass
    assert [gpu.closed for gpu in streams] == [True]


def test_without_a_gpu_one_line_says_so(
    tmp_path: Path, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycuda", None)
    monkeypatch.setitem(__import__("sys").modules, "pycuda.driver", None)
    with pytest.raises(OctavoError, match="pycuda is not installed"), TensorRtRunner(plan_of(tmp_path)):
        pass
    assert trt.deserialized == 0


def test_tensorrt_has_the_calls_that_are_made_of_it(rtx: Library) -> None:
    trt = rtx.module
    for fake, real in ((FakeEngine, trt.ICudaEngine), (FakeContext, trt.IExecutionContext)):
        calls = [name for name in vars(fake) if not name.startswith("_")]
        assert len(calls) > 3
        assert not [name for name in calls if not hasattr(real, name)]
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")
    assert hasattr(trt.TensorIOMode, "INPUT")
    assert hasattr(trt.EngineInspector, "get_engine_information")
    assert hasattr(trt.EngineInspector, "execution_context")
    assert hasattr(trt.LayerInformationFormat, "JSON")
