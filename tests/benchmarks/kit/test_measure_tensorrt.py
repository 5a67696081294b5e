"""A kit on a device with a GPU: engines are built, judged and timed, and what goes wrong is told in its row.

TensorRT and pycuda are stand-ins in NumPy here (``fakes``): times and memory mean nothing, but answers do.
"""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.kit.measure import seal
from benchmarks.kit.merge import merge_all
from benchmarks.kit.pack import pack
from benchmarks.kit.result import read_result
from benchmarks.report.devices import device_grids
from benchmarks.report.runs import load_runs
from deploy.tensorrt.cache import EngineCache, Identity
from deploy.tensorrt.engines import lay, model_sha256
from deploy.tensorrt.settings import EngineSettings
from quant.errors import BadInput
from tests.benchmarks.kit.conftest import SETTINGS, Start, finished
from tests.octavo.project import call

INT8, FP16 = "int8-tensorrt", "fp16-tensorrt"
INSTALL = "-m pip install tensorrt pycuda"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "config.yaml").write_text(yaml.safe_dump({**SETTINGS, "targets": ["ort-x86", "tensorrt"]}))
    out = folder / "run"
    for verb in (("quantize", folder / "config.yaml", "--out", out), ("export", out), ("lower", out)):
        result = call(*verb)
        assert result.exit_code == 0, result.output
    assert call("bench", out).exit_code == 0
    return out


@pytest.fixture(scope="module")
def both(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit for ONNX Runtime and TensorRT."""
    return pack(run, tmp_path_factory.mktemp("both") / "kit", samples=4).path


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit for TensorRT alone."""
    return pack(run, tmp_path_factory.mktemp("packed") / "kit", targets=["tensorrt"], samples=8).path


@pytest.fixture(scope="module")
def result(packed: Path, gpu: Path, start: Start) -> Path:
    out = gpu / "result.json"
    finished(start(packed, "--out", out))
    return out


@pytest.fixture
def kit(run: Path, tmp_path: Path) -> Path:
    return pack(run, tmp_path / "kit", targets=["tensorrt"], samples=4).path


def left(kit: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((kit / "result.json").read_text())
    assert found["sha256"] == seal(found)
    return found


def test_a_gpu_without_onnxruntime_is_measured(result: Path, gpu: Path) -> None:
    found = json.loads(result.read_text())
    part = found["tensorrt"]
    assert (found["finished"], found["variants"], found["missing"], part["errors"]) == (True, [], {}, {})
    assert part["packages"].keys() == {"numpy", "tensorrt", "pycuda"}
    assert found["device"]["gpu"] == {
        "name": "NVIDIA H100",
        "compute": "SM90",
        "library": "tensorrt",
        "version": "11.4.0",
        "memory_mib": 80000,
        "bus": "0000:01:00.0",
        "cuda": "13.2",
        "driver": "580.95.05",
        "power_limit_w": 700.0,
        "max_sm_mhz": 1980.0,
        "max_memory_mhz": None,
    }
    assert found["after"]["gpu"] == {"celsius": 41.0, "watts": 118.52, "sm_mhz": 1755.0, "memory_mhz": 2619.0}
    assert part["builds"].keys() == {"fp32", FP16, INT8}
    assert "copied to page-locked memory and to the GPU" in part["timed"]
    assert len(part["sets"]) == 2
    for one in part["sets"]:
        assert one.keys() == {"fp32", "fp32 again", FP16, INT8}
        for process in one.values():
            assert (len(process["warmup_ms"]), len(process["steady_ms"])) == (1, 4)
            assert process["footprint"]["peak_mib"] > 0
            assert process["gpu"]["process_mib"] == 321
            assert process["gpu"]["steady_mib"] == process["gpu"]["loaded_mib"] > 0
    assert set((gpu / "log").read_text().splitlines()) == {"0 left"}, "all released before the context"
    assert not list(result.parent.glob(".result*")), "engines that were built there are removed"


def test_answers_are_judged_as_those_of_any_device(run: Path, result: Path, packed: Path) -> None:
    (measured,) = merge_all(run, result)
    about = json.loads((packed / "kit.json").read_text())
    host = {entry["name"]: measured.host[entry["key"]] for entry in about["variants"]}
    labels = np.asarray(about["labels"])
    # ONNX's reference sums in another order: float16 is then 2^-11 apart, and INT8 a code here and there.
    for name, apart in (("fp32", 1e-5), (FP16, 2e-3), (INT8, 2e-2)):
        own = measured.answers[name].logits
        np.testing.assert_allclose(own, host[name].logits, rtol=0, atol=apart)
        variant = next(v for v in measured.summary.variants if v.name == name)
        assert variant.accuracy is not None
        assert variant.accuracy.top1 == pytest.approx(np.mean(own.argmax(1) == labels))
        assert variant.latency is not None
        assert variant.memory is not None
        assert (variant.note or "").startswith("engine built there in ")
        assert "MiB of the GPU's memory" in (variant.note or "")
    assert measured.summary.environment.gpu == "NVIDIA H100, TensorRT"
    assert measured.summary.noise_at(1, 1) is not None


def test_cpu_and_gpu_of_one_device_are_two_columns(
    run: Path, both: Path, bare: Path, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "result.json"
    finished(start(both, "--out", out, python=bare))
    cpu, gpu = load_runs([run, out])[1:]
    assert [v.name for v in cpu.summary.variants] == ["fp32", "int8-ort-x86"]
    assert [v.name for v in gpu.summary.variants] == ["fp32", FP16, INT8]
    assert (gpu.name, cpu.summary.environment.gpu) == ("NVIDIA H100, TensorRT", None)
    done = call("report", run, out, "--out", tmp_path / "report")
    assert done.exit_code == 0, done.output
    for written in ((tmp_path / "report" / f"report.{kind}").read_text() for kind in ("html", "md")):
        assert "NVIDIA H100, TensorRT" in written
        assert cpu.name in written
    (grid,) = device_grids(load_runs([run, out]))
    assert [row[0] for row in grid.rows if len(row) == 1] == ["run, the host", cpu.name, gpu.name]
    assert [row[0] for row in grid.rows].count("INT8 (tensorrt)") == 2, "the host simulates it"
    monkeypatch.setattr("benchmarks.kit.remote.measure_on", lambda *_: out)
    told = call("bench", run, "--host", "user@device", "--json").stdout.replace("}\n{", "},{")
    assert [one["environment"]["gpu"] for one in json.loads(f"[{told}]")] == [None, gpu.name]


def test_without_tensorrt_the_rows_say_what_to_install_and_the_others_go_on(
    run: Path, both: Path, packed: Path, bare: Path, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    done = subprocess.run([bare, "-I", both / "measure.py", "--out", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{INT8}: not installed: {bare} {INSTALL}" in done.stderr
    (measured,) = merge_all(run, out)
    notes = {variant.name: variant.note for variant in measured.summary.variants}
    assert notes["fp32"] is notes["int8-ort-x86"] is None
    assert notes[INT8] == notes[FP16] == f"not run there: not installed: {bare} {INSTALL}"
    (grid,) = device_grids(load_runs([run, out]))
    assert grid.rows[-1][0] == "INT8 (tensorrt)"
    assert "not run" in grid.rows[-1]
    refused = subprocess.run([bare, "-I", packed / "measure.py"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == f"measure.py: not installed: {bare} {INSTALL}\n"


def test_without_onnxruntime_its_rows_say_so_beside_the_gpus(
    run: Path, both: Path, start: Start, tmp_path: Path
) -> None:
    said = finished(start(both, "--out", tmp_path / "result.json"))
    (measured,) = merge_all(run, tmp_path / "result.json")
    notes = {variant.name: variant.note or "" for variant in measured.summary.variants}
    assert [name for name, note in notes.items() if "engine built" in note] == ["fp32", FP16, INT8]
    assert notes["int8-ort-x86"].endswith("-m pip install onnxruntime")
    assert "fp32: not installed" not in said, "TensorRT runs it"


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("FAKE_NO_GPU", "pycuda finds no GPU: cuInit failed: no CUDA-capable device is detected"),
        ("FAKE_OLD", "needs TensorRT 10 or later, this is 11.4.0"),
    ],
)
def test_where_no_engine_can_run_it_says_why(variable: str, said: str, packed: Path, start: Start) -> None:
    assert finished(start(packed, **{variable: "1"}), 2) == f"measure.py: {said}\n"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            "FAKE_REFUSES",
            "tensorrt 11.4.0 cannot build it: Could not find any implementation for node /fc1/MatMul",
        ),
        ("FAKE_DIES", "the process that ran it ended by SIGSEGV:"),
    ],
)
def test_a_build_that_fails_costs_the_others_nothing(
    how: str, said: str, run: Path, kit: Path, start: Start
) -> None:
    finished(start(kit, **{how: INT8}))
    part = left(kit)["tensorrt"]
    assert part["errors"] == {INT8: said}
    assert part["answers"].keys() == part["builds"].keys() == {"fp32", FP16}
    assert [one.keys() for one in part["sets"]] == 2 * [{"fp32", "fp32 again", FP16}]
    (measured,) = merge_all(run, kit / "result.json")
    assert measured.summary.variants[-1].note == f"failed there: {said}"


def test_where_the_float_model_fails_on_the_gpu_the_cpu_is_still_shown(
    run: Path, bare: Path, start: Start, tmp_path: Path
) -> None:
    kit = pack(run, tmp_path / "kit", samples=4).path
    finished(start(kit, python=bare, FAKE_REFUSES="fp32"))
    (measured,) = merge_all(run, kit / "result.json")
    notes = {variant.name: variant.note or "" for variant in measured.summary.variants}
    assert notes["fp32"] == notes["int8-ort-x86"] == ""
    assert notes[INT8].startswith("fp32, which others are compared with, was not measured: tensorrt 11.4.0 ")


def test_an_interrupted_measurement_keeps_its_engines(kit: Path, start: Start) -> None:
    process = start(kit)
    for _ in range(1200):
        if (kit / "result.json").exists() and left(kit)["tensorrt"]["answers"]:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    finished(process, 130)
    assert len(list((kit / ".result.json.engines").iterdir())) == 3
    before = left(kit)["tensorrt"]["builds"]
    (kit / ".result.json.engines" / f"{FP16}.plan").write_bytes(b"cut")
    finished(start(kit, FAKE_REFUSES=INT8))
    after = left(kit)["tensorrt"]
    assert after["errors"] == {}, "it was not built again"
    assert [after["builds"][name] == before[name] for name in (INT8, FP16)] == [True, False]


def add_engine(run: Path, folder: Path, **changes: Any) -> None:
    """An engine as `octavo build` leaves it."""
    import onnx

    model = run / INT8 / "model.onnx"
    about = {"library": "tensorrt", "version": "11.4.0", "device": "NVIDIA H100 (SM90)"}
    whole = {**about, "model": model_sha256(model), "settings": EngineSettings(), **changes}
    shapes = json.dumps({"input": [[1, 1, 32, 32], [1, 1, 32, 32], [8, 1, 32, 32]]}).encode()
    content = shapes + b"\0" + onnx.load(model).SerializeToString()
    lay(EngineCache(folder).get(Identity(**whole), lambda plan: plan.write_bytes(content)), model.parent)


def test_the_runs_engine_is_used_where_it_fits(run: Path, start: Start, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    add_engine(copy, tmp_path / "cache")
    done = call("kit", copy, "--target", "tensorrt", "--samples", 9, "--out", tmp_path / "kit")
    assert f"; engines of {INT8}; 9 samples" in done.stderr
    finished(start(tmp_path / "kit", FAKE_REFUSES=INT8))
    part = left(tmp_path / "kit")["tensorrt"]
    assert (part["errors"], part["builds"][INT8]["own"], part["builds"][FP16]["own"]) == ({}, True, False)
    assert part["answers"][INT8]["count"] == 9, "though it takes 8 at once"
    add_engine(copy, tmp_path / "cache", version="11.5.0")  # another one does not make the result useless
    (measured,) = merge_all(copy, tmp_path / "kit" / "result.json")
    assert (measured.summary.variants[-1].note or "").startswith("the run's own engine; ")


def test_an_engine_for_something_else_is_built_anew_which_is_told(
    run: Path, start: Start, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    add_engine(copy, tmp_path / "cache", version="10.9.0")
    kit = pack(copy, tmp_path / "kit", targets=["tensorrt"], samples=4).path
    finished(start(kit))
    assert left(kit)["tensorrt"]["builds"][INT8]["own"] is False
    (measured,) = merge_all(copy, kit / "result.json")
    assert " s: the run's was built with 10.9.0, here is 11.4.0; " in (
        measured.summary.variants[-1].note or ""
    )
    add_engine(copy, tmp_path / "cache", model="0" * 64)
    assert pack(copy, tmp_path / "b", targets=["tensorrt"], samples=4).engines == (), "of an older model"
    (copy / INT8 / "engine.plan").write_bytes(b"cut")
    with pytest.raises(BadInput, match=r"is not the engine that engine\.json describes"):
        pack(copy, tmp_path / "c", targets=["tensorrt"], samples=4)


def test_a_changed_result_of_a_gpu_is_refused(result: Path, tmp_path: Path) -> None:
    content = json.loads(result.read_text())
    del content["device"]["gpu"]
    content["sha256"] = seal(content)
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match="TensorRT ran, and the device has no GPU"):
        read_result(tmp_path / "result.json")
