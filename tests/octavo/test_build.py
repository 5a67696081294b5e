"""`octavo build`, with the builder that needs no GPU."""

import json
from pathlib import Path

import pytest
from typer.testing import Result

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
