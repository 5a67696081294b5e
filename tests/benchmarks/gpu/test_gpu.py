"""A kit is measured by whatever is there, within its time, and every row says what computed it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import engines as engines_module
from benchmarks.gpu import measure as measure_module
from benchmarks.gpu.clock import Meter, time_calls
from benchmarks.gpu.kit import Kit, open_kit, prepare
from benchmarks.gpu.measure import measure
from benchmarks.gpu.sections import SECTIONS, Budget, rows_of
from benchmarks.gpu.show import markdown
from deploy.audit.execute import Optimization
from deploy.onnxruntime.build import SessionSettings
from deploy.onnxruntime.run import OrtRunner
from quant.errors import BadInput
from tests.octavo.project import call

QUICK = Budget(seconds=0.01, device="cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    sizes = {"img_size": 32, "patch_size": 8, "in_chans": 1, "embed_dim": 24, "depth": 1, "num_heads": 3}
    settings = {
        "model": {"name": "vit_tiny_patch16_224", "kwargs": {**sizes, "num_classes": 10}},
        "calibration": {"kind": "digits", "split": "calibration", "limit": 16},
        "validation": {"kind": "digits", "split": "validation", "limit": 4},
        "targets": ["tensorrt"],
        "export": {"parity": "warn"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    out = folder / "run"
    for verb in (("quantize", folder / "config.yaml", "--out", out), ("export", out), ("lower", out)):
        result = call(*verb)
        assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def kit(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return prepare(run, tmp_path_factory.mktemp("kit") / "kit", images=6)


def test_a_kit_has_models_samples_and_what_to_time(kit: Kit) -> None:
    assert list(kit.models) == ["fp32", "fp16", "int8"]
    images = kit.images()
    assert images.shape == (6, 1, 32, 32)
    assert images.dtype == np.float32
    settings = SessionSettings(optimization=Optimization.OFF)
    for name, file in kit.models.items():
        with OrtRunner(file, settings) as runner:
            answers = runner.infer({"input": images})["output"]
        # the same operators, in other batches
        np.testing.assert_allclose(kit.logits(name), answers, rtol=0, atol=1e-3)
    assert kit.model is not None
    assert kit.model["name"] == "vit_tiny_patch16_224"
    fc1 = next(p for p in kit.products if "fc1" in p.layer)
    assert (fc1.count, fc1.rows, fc1.inner, fc1.outer) == (1, 17, 24, 96)
    assert sum(p.count for p in kit.products) == 5, "qkv, proj, fc1, fc2, head"


def test_what_cannot_be_packed_or_opened_is_refused(run: Path, kit: Kit, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        prepare(run, kit.folder)
    with pytest.raises(BadInput, match="has no variant 'fp8'; it has fp32, fp16, int8"):
        prepare(run, tmp_path / "k", chosen=["fp8"])
    with pytest.raises(BadInput, match="is not the folder of a run"):
        prepare(tmp_path, tmp_path / "k")
    with pytest.raises(BadInput, match="at least 1 sample, got 0"):
        prepare(run, tmp_path / "k", images=0)
    with pytest.raises(BadInput, match="is not a kit"):
        open_kit(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert list(prepare(run, tmp_path / "k", 2, ["fp16"]).models) == ["fp32", "fp16"]


def test_the_parts_by_pytorch_run_here(kit: Kit) -> None:
    products = list(SECTIONS["gemm"](kit, QUICK))
    names = {row.by.partition(", ")[2] for row in products}
    assert names == {"float16 product", "INT8 product (_int_mm)", "FP8 product (_scaled_mm)"}
    assert all(row.timed is not None or row.note for row in products)
    assert any(row.timed is not None for row in products)
    first = next(SECTIONS["torch"](kit, QUICK))
    assert first.timed is not None
    assert first.timed.calls >= 20
    assert first.by.startswith("PyTorch")


def test_a_part_without_its_library_or_gpu_says_so_and_has_no_figure(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_ENGINES", str(tmp_path / "engines"))
    parts = ["onnxruntime", "tensorrt", "tensorrt_rtx"]
    found = measure(kit.folder, tmp_path / "gpu.json", parts, 60, QUICK)
    assert json.loads((tmp_path / "gpu.json").read_text())["sections"] == found["sections"]
    assert "has no CUDAExecutionProvider" in found["sections"]["onnxruntime"]["end"]
    assert "TensorRT is not installed" in found["sections"]["tensorrt"]["end"]
    rows = [row for section in found["sections"].values() for row in section["rows"]]
    assert all(row["timed"] is None and row["note"] for row in rows)
    assert found["device"]["name"] is None
    text = markdown(found)
    assert "# no GPU" in text
    assert " ms" not in text


def test_a_runtime_is_compared_with_the_float_model_and_with_the_same_file(kit: Kit) -> None:
    for name, exact in (("fp32", True), ("int8", False)):
        with OrtRunner(kit.models[name], SessionSettings(optimization=Optimization.OFF)) as runner:
            rows = list(rows_of("ONNX Runtime", name, runner, kit, QUICK))
        assert [row.batch for row in rows] == [1, 8]
        for row in rows:
            assert row.timed is not None
            assert row.more["agreement_onnxruntime"] == 1.0
            assert row.more["sqnr_db_onnxruntime"] > 80
            assert (row.more["sqnr_db_float"] > 80) is exact


PARTS = """
import os, signal, sys, time
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.clock import time_calls
from benchmarks.gpu.sections import Row, section

def row(name):
    return Row("test", name, 1, time_calls(lambda: None, 0), {"agreement_float": 0.5})

@section("crashes")
def crashes(kit, budget):
    yield row(kit.folder.name)
    print("not a row")
    print("the reason", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

@section("hangs")
def hangs(kit, budget):
    yield row(str(budget.seconds))
    time.sleep(600)

@section("works")
def works(kit, budget):
    yield row("last")

sys.exit(main())
"""


def test_a_part_that_crashes_or_hangs_keeps_its_rows_and_costs_the_others_nothing(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "parts.py"
    own.write_text(PARTS)
    monkeypatch.setattr(measure_module, "_COMMAND", (sys.executable, str(own)))
    monkeypatch.setattr(measure_module, "_device", lambda: {"name": "test", "compute": "SM00"})
    start_s = time.monotonic()
    found = measure(kit.folder, tmp_path / "gpu.json", ["crashes", "hangs", "works"], 36, QUICK)["sections"]
    assert time.monotonic() - start_s < 60
    assert [row["what"] for row in found["crashes"]["rows"]] == [kit.folder.name]
    assert "ended by SIGSEGV" in found["crashes"]["end"]
    assert "the reason" in found["crashes"]["end"]
    assert [row["what"] for row in found["hangs"]["rows"]] == ["0.01"]
    assert "s were over" in found["hangs"]["end"]
    assert [row["what"] for row in found["works"]["rows"]] == ["last"]
    assert found["works"]["end"] == "done"


def test_energy_is_the_counter_s_difference_for_each_call() -> None:
    class Counter(Meter):
        def __init__(self) -> None:
            self.told = iter((1000.0, 1500.0))

        def millijoules(self) -> float | None:
            return next(self.told)

    timed = time_calls(lambda: None, 0, Counter())
    assert timed.millijoules == 500.0 / timed.calls
    assert time_calls(lambda: None, 0).millijoules is None


def test_the_command_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "measure", str(tmp_path), "--out", str(tmp_path / "o.json")])
    assert command.main() == 2
    assert "is not a kit" in capsys.readouterr().err
    assert not (tmp_path / "o.json").exists()


def test_without_a_gpu_both_ways_of_finding_one_are_told() -> None:
    with pytest.raises(Exception, match=r"pycuda is not installed.*; PyTorch finds no GPU here"):
        engines_module.machine_here()


def test_measuring_needs_little_to_be_installed() -> None:
    missing = ("pydantic", "torchvision", "onnx_ir", "onnxscript", "onnxsim", "cyclonedx", "typer", "yaml")
    code = f"import sys\nfor name in {missing!r}: sys.modules[name] = None\n"
    code += "import benchmarks.gpu.__main__, benchmarks.gpu.engines, deploy.audit.engine, deploy.tensorrt.run"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
