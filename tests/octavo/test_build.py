"""`octavo build`, with the builder that needs no GPU."""

import json
from pathlib import Path

import onnx
import pytest
from typer.testing import Result

from benchmarks.results import load_summary
from deploy.tensorrt.manifest import read_manifest
from quant.files import file_sha256
from tests.octavo.project import Project, call, check_refused


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip(
        "tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: pip install 'octavo[rtx]'"
    )
    monkeypatch.setenv("OCTAVO_ENGINES", str(tmp_path / "engines"))
    return tmp_path / "engines"


def test_an_engine_is_laid_beside_its_model(finished: tuple[Project, Result], cache: Path) -> None:
    project, _ = finished
    result = call("build", project.out, "--library", "tensorrt_rtx")
    assert result.exit_code == 0, result.output
    folder = project.out / "int8-tensorrt"
    manifest = json.loads((folder / "engine.json").read_text())
    assert manifest["model"] == file_sha256(folder / "model.onnx")
    assert manifest["plan"]["sha256"] == file_sha256(folder / "engine.plan")
    assert manifest["settings"]["batches"] == [1, 1, 8]
    assert (manifest["library"], manifest["device"]) == ("tensorrt_rtx", None)
    assert manifest["measured"]["accuracy"]["n"] == 12
    assert manifest["measured"]["latency"] is None
    assert "kernels were not run here" in manifest["measured"]["note"]
    assert read_manifest(folder / "engine.plan").version == manifest["version"]

    again = call("build", project.out, "--library", "tensorrt_rtx", "--variant", "int8", "--json")
    (built,) = json.loads(again.stdout)
    assert built["fresh"] is False
    assert "found in the engine cache" in again.stderr
    other = json.loads(call("build", project.out, "--batches", "1,4,16", "--json").stdout)
    assert [(one["variant"], one["fresh"]) for one in other] == [
        (name, True) for name in ("fp32", "fp16", "int8")
    ]
    assert len([folder for folder in cache.iterdir() if folder.is_dir()]) == 6
    for name in ("fp32", "fp16-tensorrt"):
        assert (project.out / name / "engine.plan").is_file()


def test_a_run_for_tensorrt_8_alone_is_built_of_its_models(project: Project) -> None:
    project.settings["targets"] = ["tensorrt8"]
    result = project.run()
    assert result.exit_code == 0, result.output
    summary = load_summary(project.out / "summary.json")
    assert [v.name for v in summary.variants] == ["fp32", "fp32-tensorrt8", "int8-tensorrt8"]
    for variant in summary.variants[1:]:
        assert variant.accuracy is not None
        assert variant.note is not None
        assert "kernels were not run here" in variant.note
    for model in ("fp32-tensorrt8", "int8-tensorrt8"):
        assert onnx.load(project.out / model / "model.onnx").opset_import[0].version == 17

    asked = ("build", project.out, "--library", "tensorrt_rtx", "--json")
    by_default = json.loads(call(*asked).stdout)
    assert [(one["variant"], one["fresh"]) for one in by_default] == [("fp32", True), ("int8", True)]
    named = json.loads(call(*asked, "--target", "tensorrt8").stdout)
    assert [one["plan"] for one in named] == [one["plan"] for one in by_default]
    assert (project.out / "fp32-tensorrt8" / "engine.plan").is_file()
    check_refused(call(*asked, "--target", "tensorrt"), "the run has no target tensorrt;")
    check_refused(
        call(*asked, "--target", "ort-x86"), "built of targets tensorrt and tensorrt8, not of 'ort-x86'"
    )

    matrix = project.folder / "builds.yaml"
    matrix.write_text(f"library: tensorrt_rtx\nmodels: {{two: {project.out}}}\n")
    built = call("build", "--matrix", matrix, "--out", project.folder / "engines", "--json")
    assert [(c["variant"], c["status"]) for c in json.loads(built.stdout)["cells"]] == [
        ("fp32", "cached"),
        ("int8", "cached"),
    ]


def test_wrong_requests_are_refused_in_one_line(finished: tuple[Project, Result], project: Project) -> None:
    done, _ = finished
    check_refused(call("build", done.out, "--variant", "w6a6"), "no variant 'w6a6'; it has fp32, fp16, int8")
    check_refused(call("build", done.out, "--batches", "4,2,8"), "fewest ≤ usual ≤ most")
    check_refused(call("build", done.out, "--library", "onnx"), "unknown library 'onnx'")
    check_refused(call("build", project.folder), "is not the folder of a run")
    project.settings["targets"] = ["ort-x86"]
    assert call("quantize", project.config, "--out", project.out).exit_code == 0
    check_refused(call("build", project.out), "the run has no target tensorrt")
    assert call("build", done.out, "--batches", "1,2").exit_code == 2


def test_a_broken_model_leaves_no_engine(finished: tuple[Project, Result], cache: Path) -> None:
    project, _ = finished
    model = project.out / "int8-tensorrt" / "model.onnx"
    whole = model.read_bytes()
    try:
        model.write_bytes(whole[: len(whole) // 2])
        check_refused(call("build", project.out, "--variant", "int8"), "is not a valid ONNX model")
    finally:
        model.write_bytes(whole)
    assert not [path for path in cache.iterdir() if path.is_dir()]
