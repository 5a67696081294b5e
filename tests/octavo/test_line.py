"""The verbs, used as a person uses them, on a model of two linear layers."""

import dataclasses
import gc
import json
import shutil
import sys
import weakref
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from typer.testing import Result

from benchmarks.results import load_summary
from deploy.pipeline.line import open_run
from deploy.pytorch.build import build_module
from deploy.pytorch.run import TorchRunner
from quant.errors import BadInput
from quant.recipe import load_recipe
from quant.tuning.checkpoint import Checkpoint
from tests.octavo.project import Project, call, check_refused

_SIMULATED = "accuracy as ONNX defines its operators; this target's own kernels were not run here"


def test_a_run_leaves_every_promised_file(finished: tuple[Project, Result]) -> None:
    project, result = finished
    variant = ["audit.json", "lowering.json", "model.onnx", "parity.json"]
    assert project.left() == sorted(
        ["fp32/model.onnx", "fp32-ort-x86/lowering.json", "fp32-ort-x86/model.onnx"]
        + ["fp16-tensorrt/lowering.json", "fp16-tensorrt/model.onnx"]
        + ["int8/calibration.safetensors", "int8/qdq.onnx"]
        + [f"int8-ort-x86/{name}" for name in variant]
        + [f"int8-tensorrt/{name}" for name in variant[1:]]
        + ["report.html", "report.md", "summary.json"]
    )
    summary = load_summary(project.out / "summary.json")
    fp32, half, x86, tensorrt = summary.variants
    names = ["fp32", "fp16-tensorrt", "int8-ort-x86", "int8-tensorrt"]
    assert [v.name for v in summary.variants] == names
    assert all((project.out / v.file).stat().st_size == v.size_bytes for v in summary.variants)
    assert fp32.accuracy is not None
    assert fp32.accuracy.n == 12
    assert x86.audit is not None
    assert x86.audit["model"] == "int8-ort-x86/model.onnx"
    assert x86.parity is not None
    for variant in (half, tensorrt):
        assert variant.latency is None
        assert variant.accuracy is not None
        assert variant.accuracy.n == 12
        assert variant.note == _SIMULATED
    assert half.accuracy is not None
    assert half.accuracy.sqnr_db is not None
    assert half.accuracy.sqnr_db > 40, "rounding to 11 bits"
    assert half.energy is not None
    assert half.energy.ratio is not None
    assert half.energy.ratio > 1.5
    assert summary.settings["calibration_batch"] == 16
    assert "Top-1" in result.stdout


def test_the_models_say_where_they_come_from(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    model = onnx.load(project.out / "int8-ort-x86" / "model.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["octavo.model"] == "octavo_test_models:Two"
    assert about["octavo.num_classes"] == "3"
    assert json.loads(about["octavo.preprocessing"])["input_size"] == [3, 8, 8]
    assert json.loads(about["octavo.recipe"])["name"] == "int8"
    assert json.loads(about["octavo.versions"])["torch"] == version("torch")
    assert about["octavo.target"] == "ort-x86"


def test_a_second_run_skips_everything_and_changes_nothing(finished: tuple[Project, Result]) -> None:
    project, first = finished
    before = {
        name: (project.out / name).stat().st_mtime_ns for name in project.left() if "report" not in name
    }
    again = project.run()
    assert again.exit_code == 0
    steps = first.stderr.splitlines()
    assert again.stderr.count("nothing has changed, skipped") == 9
    assert "skipped" not in "".join(steps)
    assert before == {name: (project.out / name).stat().st_mtime_ns for name in before}


def test_single_verbs_make_the_same_models_byte_for_byte(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    out = project.folder / "verbs"
    assert call("quantize", project.config, "--out", out).exit_code == 0
    for verb in ("export", "lower"):  # each reads back what the one before left
        result = call(verb, out)
        assert result.exit_code == 0, result.output
    for name in ("fp32/model.onnx", "int8/qdq.onnx", "int8-ort-x86/model.onnx", "int8-tensorrt/model.onnx"):
        assert (out / name).read_bytes() == (project.out / name).read_bytes(), name


def test_the_copied_configuration_makes_the_same_run(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    again = call("run", project.out / "config.yaml", "--out", project.out)
    assert again.exit_code == 0
    assert again.stderr.count("nothing has changed, skipped") == 9


def test_bench_prints_json_and_nothing_else(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    result = call("bench", project.out, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["variants"][0]["name"] == "fp32"


def test_other_targets_can_be_left_unjudged(project: Project) -> None:
    project.settings["bench"]["other_targets"] = False
    assert project.run().exit_code == 0
    *_, tensorrt = load_summary(project.out / "summary.json").variants
    assert tensorrt.accuracy is None
    assert tensorrt.note == "exported and checked; not run here"


def test_bench_measures_again_when_forced(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    before = load_summary(project.out / "summary.json").created
    assert call("bench", project.out, "--force").exit_code == 0
    assert load_summary(project.out / "summary.json").created > before


def test_pytorch_is_measured_beside_where_it_is_asked_for(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    beside = project.folder / "with_pytorch"
    shutil.copytree(project.out, beside)
    settings = yaml.safe_load((beside / "config.yaml").read_text())
    settings["bench"]["pytorch"] = True
    (beside / "config.yaml").write_text(yaml.safe_dump(settings))
    assert call("bench", beside).exit_code == 0
    variants = {v.name: v for v in load_summary(beside / "summary.json").variants}
    float_onnx, eager, fake_quant = variants["fp32"], variants["fp32-pytorch"], variants["int8-pytorch"]
    assert float_onnx.backend == "onnxruntime"
    assert eager.backend == fake_quant.backend == "pytorch"
    # The same function twice, so only rounding differs; the fake-quant model differs by quantization.
    assert eager.accuracy.sqnr_db > 100 > fake_quant.accuracy.sqnr_db > 15
    assert eager.accuracy.agreement == 1.0
    assert len(fake_quant.latency[0].samples_ms) == 2 * 3
    # The process of PyTorch holds PyTorch; that of ONNX Runtime does not.
    assert eager.memory.imported_mib > float_onnx.memory.imported_mib + 50
    with pytest.raises(BadInput, match="has no recipe 'int4'; it has int8"):
        build_module(beside, "int4")
    with TorchRunner(beside) as runner, pytest.raises(BadInput, match="takes 'input' of float32; given: x"):
        runner.infer({"x": np.ones((1, 3, 8, 8), np.float32)})


def test_load_is_put_on_every_variant_where_it_is_asked_for(finished: tuple[Project, Result]) -> None:
    pytest.importorskip("mlperf_loadgen", reason="the extra loadgen is not installed")
    project, _ = finished
    beside = project.folder / "with_load"
    shutil.copytree(project.out, beside)
    settings = yaml.safe_load((beside / "config.yaml").read_text())
    settings["bench"]["load"] = {"utilization": [0.5], "seconds": 0.1, "batch": 4}
    (beside / "config.yaml").write_text(yaml.safe_dump(settings))
    assert call("bench", beside).exit_code == 0
    fp32, _, x86, tensorrt = load_summary(beside / "summary.json").variants
    assert tensorrt.load is None
    for variant in (fp32, x86):
        assert [(r.scenario, r.utilization, r.batch) for r in variant.load] == [
            ("offline", None, 4),
            ("server", 0.5, 1),
        ]
        assert all(r.images_per_s > 0 and r.p99_ms >= r.p50_ms > 0 for r in variant.load)
        # The same load for all of them: half of what the float model can do one by one.
        assert variant.load[1].rate == pytest.approx(500 / fp32.latency[0].median_ms)
    told = " ".join(call("report", beside).stdout.split())
    assert "Load, server" in told


def test_audit_prints_json_or_a_table(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    model = project.out / "int8-ort-x86" / "model.onnx"
    found = call("audit", model, "--target", "ort-x86", "--json")
    assert {m["module"] for m in json.loads(found.stdout)["multiplications"]} == {"first", "second"}
    assert found.stderr == ""
    assert "of the linear and convolution MACs" in call("audit", model).stdout


def test_report_is_drawn_again(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    (project.out / "report.html").unlink()
    assert call("report", project.out).exit_code == 0
    assert "INT8 (ort-x86)" in (project.out / "report.md").read_text()
    assert (project.out / "report.html").read_text().startswith("<!")


def test_a_changed_setting_does_only_what_depends_on_it(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    project.change("bench", calls=4)
    again = project.run()
    assert again.stderr.count("nothing has changed, skipped") == 8
    assert "\nbench\n" in again.stderr


def test_an_edited_model_is_quantized_again(project: Project) -> None:
    assert call("quantize", project.config, "--out", project.out).exit_code == 0
    code = project.folder / "octavo_test_models.py"
    code.write_text(code.read_text().replace("nn.GELU()", "nn.SiLU()"))
    sys.modules.pop("octavo_test_models")
    again = call("quantize", project.config, "--out", project.out)
    assert again.exit_code == 0
    assert "skipped" not in again.stderr
    # What was exported before the edit cannot be mixed with it.
    code.write_text(code.read_text().replace("nn.SiLU()", "nn.ReLU()"))
    sys.modules.pop("octavo_test_models")
    check_refused(call("export", project.out), "another model", "quantize again")


def test_a_changed_file_is_made_again(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    model = project.out / "int8-ort-x86" / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:100])
    check_refused(call("bench", project.out), "'lower int8-ort-x86' is not done", "octavo lower")
    assert call("lower", project.out).exit_code == 0
    assert model.read_bytes() == whole


def test_a_fixed_batch_goes_through_the_whole_line(project: Project) -> None:
    project.change("export", dynamic_batch=False)
    project.change("bench", batch_sizes=[1, 4])
    result = project.run()
    assert result.exit_code == 0, result.output
    (batch, *_) = (
        onnx.load(project.out / "int8-ort-x86" / "model.onnx").graph.input[0].type.tensor_type.shape.dim
    )
    assert batch.dim_value == 1
    fp32, _, x86, _ = load_summary(project.out / "summary.json").variants
    assert fp32.latency is not None
    assert [entry.batch for entry in fp32.latency] == [1]
    assert x86.accuracy is not None
    assert x86.accuracy.n == 12


def test_an_interrupted_training_is_gone_on_with(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("int8").model_dump(mode="json", exclude_none=True)
    recipe |= {"name": "trained", "methods": [{"name": "fine_tune", "epochs": 4, "batch": 4}]}
    (project.folder / "trained.yaml").write_text(yaml.safe_dump(recipe))
    project.settings["recipe"] = "trained.yaml"
    whole = project.folder / "whole"
    assert call("quantize", project.config, "--out", whole).exit_code == 0

    kept, epochs = Checkpoint.save, []

    def save(checkpoint: Checkpoint, key: str, state: dict[str, Any]) -> None:
        kept(checkpoint, key, state)
        epochs.append(state["epochs"])
        if epochs == [1, 2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save)
    assert call("quantize", project.config, "--out", project.out).exit_code == 130
    assert call("quantize", project.config, "--out", project.out).exit_code == 0
    assert epochs == [1, 2, 3, 4]
    assert project.left() == ["trained/calibration.safetensors"]
    calibration = "trained/calibration.safetensors"
    assert (project.out / calibration).read_bytes() == (whole / calibration).read_bytes()


def test_memory_does_not_grow_with_the_number_of_recipes(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    line = open_run(project.out)
    recipe = line.recipes[0]
    first = weakref.ref(line.calibrated(recipe))
    other = first()
    assert other is not None
    line.keep(dataclasses.replace(other, recipe=recipe.model_copy(update={"name": "other"})))
    del other
    gc.collect()
    assert first() is None
    assert line.calibrated(recipe).recipe == recipe
