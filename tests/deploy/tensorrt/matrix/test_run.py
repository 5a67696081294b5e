"""Matrices of ONNX files, with the builder that needs no GPU."""

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cyclonedx.validation.json import JsonStrictValidator

from deploy.sbom import SCHEMA
from deploy.tensorrt.cache import EngineCache
from deploy.tensorrt.library import Library
from deploy.tensorrt.matrix.outcome import Build
from deploy.tensorrt.matrix.run import build_matrix
from quant.errors import BadInput
from quant.files import file_sha256
from tests.deploy.tensorrt.conftest import save_linear

pytestmark = pytest.mark.usefixtures("rtx")
LISTS = {"SHA256SUMS", "sbom.cdx.json", "junit.xml", "summary.json", "summary.md"}


@pytest.fixture
def matrix(tmp_path: Path, linear: Path) -> Path:
    """Two good models, one with a fixed batch."""
    assert linear == tmp_path / "linear.onnx"
    save_linear(tmp_path / "fixed.onnx", 3)
    path = tmp_path / "builds.yaml"
    write(path, "{linear: linear.onnx, fixed: fixed.onnx}", "{one: , eight: {batches: [1, 8, 8]}}")
    return path


def write(path: Path, models: str, profiles: str, more: str = "") -> None:
    path.write_text(f"library: tensorrt_rtx\nmodels: {models}\nprofiles: {profiles}\n{more}\n")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    """Most tests do not care who built an engine."""
    return EngineCache(tmp_path_factory.mktemp("cache"))


def build(matrix: Path, cache: EngineCache) -> Build:
    return build_matrix(matrix, matrix.parent / "out", cache)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def statuses(build: Build) -> dict[str, str]:
    return {outcome.cell.name: outcome.status for outcome in build.outcomes}


def check_sums(folder: Path) -> None:
    """What `sha256sum -c` says, and that it names every other file."""
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.rpartition(":")[0] for line in done.stdout.splitlines()} == files(folder) - {"SHA256SUMS"}


def test_every_cell_has_its_engine_with_checksums_and_a_bill_of_materials(
    matrix: Path, shared: EngineCache, rtx: Library
) -> None:
    done = build(matrix, shared)
    out = matrix.parent / "out"
    names = [f"{model}/onnx/{profile}" for model in ("linear", "fixed") for profile in ("one", "eight")]
    assert list(statuses(done)) == names
    assert not done.failed
    assert files(out) == LISTS | {f"{n}/{file}" for n in names for file in ("engine.plan", "engine.json")}
    check_sums(out)
    manifest = json.loads((out / "linear/onnx/eight/engine.json").read_text())
    assert manifest["settings"]["batches"] == [1, 8, 8]
    assert manifest["model"] == file_sha256(matrix.parent / "linear.onnx")
    told = json.loads((out / "summary.json").read_text())
    assert (told["library"], told["version"], told["failed"]) == ("tensorrt_rtx", rtx.version, False)
    for cell in told["cells"]:
        plan = out / cell["model"] / cell["variant"] / cell["profile"] / "engine.plan"
        assert (cell["sha256"], cell["size"]) == (file_sha256(plan), plan.stat().st_size)
    text = (out / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SCHEMA).validate_str(text) is None
    bill = json.loads(text)
    digests = {part["name"]: part["hashes"][0]["content"] for part in bill["components"] if "hashes" in part}
    assert digests == {
        "linear/linear.onnx": file_sha256(matrix.parent / "linear.onnx"),
        "fixed/fixed.onnx": file_sha256(matrix.parent / "fixed.onnx"),
        **{f"{name}/engine.plan": file_sha256(out / name / "engine.plan") for name in names},
    }
    versions = {
        part["purl"].partition("@")[0]: part.get("version") for part in bill["components"] if "purl" in part
    }
    assert {"pkg:pypi/onnx", "pkg:pypi/octavo"} < set(versions)
    assert rtx.version in [v for name, v in versions.items() if "tensorrt" in name]
    (engine,) = [d for d in bill["dependencies"] if d["ref"].startswith("linear/onnx/one/engine.plan@")]
    assert [ref for ref in engine["dependsOn"] if ref.startswith("linear/linear.onnx@")]
    assert [ref for ref in engine["dependsOn"] if ref.startswith("pkg:pypi/tensorrt-rtx")]


def test_the_same_model_gives_the_same_bill_of_materials_built_or_cached(matrix: Path) -> None:
    bill = matrix.parent / "out" / "sbom.cdx.json"
    write(matrix, "{fixed: fixed.onnx}", "{one: }")
    first, second = (EngineCache(matrix.parent / name) for name in ("first", "second"))
    assert statuses(build(matrix, first)) == {"fixed/onnx/one": "built"}
    written = bill.read_bytes()
    assert statuses(build(matrix, first)) == {"fixed/onnx/one": "cached"}
    assert bill.read_bytes() == written
    assert statuses(build(matrix, second)) == {"fixed/onnx/one": "built"}
    assert bill.read_bytes() == written


def test_a_failing_cell_is_told_and_leaves_no_old_engine_while_the_others_go_on(
    matrix: Path, shared: EngineCache
) -> None:
    out = matrix.parent / "out"
    build(matrix, shared)
    (matrix.parent / "linear.onnx").write_bytes(b"not a model")
    done = build(matrix, shared)
    assert done.failed
    assert statuses(done) == {
        "linear/onnx/one": "failed",
        "linear/onnx/eight": "failed",
        "fixed/onnx/one": "cached",
        "fixed/onnx/eight": "cached",
    }
    assert not (out / "linear").exists()
    check_sums(out)
    suite = ElementTree.parse(out / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("4", "2")
    failures = {(case.get("classname"), case.get("name")): case.find("failure") for case in suite}
    failure = failures["linear.onnx", "one"]
    assert failure is not None
    assert "linear.onnx: is not a valid ONNX model" in failure.get("message", "")
    assert failures["fixed.onnx", "one"] is None
    assert all(float(case.get("time", "")) >= 0 for case in suite)
    table = (out / "summary.md").read_text()
    assert table.startswith("### 2 of 4 engines failed (TensorRT-RTX")
    assert table.count("❌ failed") == 2
    assert "- linear/onnx/one: " in table
    assert "linear.onnx" not in (out / "sbom.cdx.json").read_text()


def test_a_cell_that_takes_too_long_fails_alone(matrix: Path, shared: EngineCache) -> None:
    write(matrix, "{fixed: fixed.onnx}", "{one: }")
    build(matrix, shared)
    save_linear(matrix.parent / "new.onnx", 5)
    write(matrix, "{fixed: fixed.onnx, new: new.onnx}", "{one: }", "timeout_s: 0.01")
    done = build(matrix, shared)
    assert statuses(done) == {"fixed/onnx/one": "cached", "new/onnx/one": "failed"}
    assert "took longer than 0.01 s" in done.outcomes[1].message


def test_engines_that_the_matrix_no_longer_has_are_removed_and_other_files_kept(
    matrix: Path, shared: EngineCache
) -> None:
    out = matrix.parent / "out"
    build(matrix, shared)
    (out / "linear/onnx/notes.txt").write_text("mine")
    write(matrix, "{fixed: fixed.onnx}", "{one: }")
    build(matrix, shared)
    cell = "fixed/onnx/one"
    assert files(out) == LISTS | {f"{cell}/engine.plan", f"{cell}/engine.json", "linear/onnx/notes.txt"}


def test_a_forged_summary_does_not_reach_out_of_the_folder(matrix: Path, shared: EngineCache) -> None:
    (matrix.parent / "out").mkdir()
    other = matrix.parent / "a" / "b" / "engine.plan"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of somebody else")
    cells = [{"model": "..", "variant": "a", "profile": "b"}]
    (matrix.parent / "out" / "summary.json").write_text(json.dumps({"cells": cells}))
    write(matrix, "{fixed: fixed.onnx}", "{one: }")
    build(matrix, shared)
    assert other.read_bytes() == b"of somebody else"


def test_a_matrix_that_is_not_in_order_touches_nothing(matrix: Path, shared: EngineCache) -> None:
    out = matrix.parent / "out"
    build(matrix, shared)
    before = {name: (out / name).read_bytes() for name in files(out)}
    for models, profiles, more, said in (
        ("{linear: linear.onnx, b: gone.onnx}", "{one: }", "", "models.b: .*gone.onnx: no such file"),
        ("{linear: linear.onnx, b: .}", "{one: }", "", "models.b: .*is not the folder of a run"),
        ("{linear: linear.onnx}", "{one: , two: {compute: [SM12]}}", "", "profiles.two: .* has no 'SM12'"),
        (
            "{linear: linear.onnx}",
            "{one: }",
            "exclude: [{profile: two}]",
            "exclude: no cell has profile 'two'",
        ),
    ):
        write(matrix, models, profiles, more)
        with pytest.raises(BadInput, match=f"builds.yaml: {said}"):
            build(matrix, shared)
        assert {name: (out / name).read_bytes() for name in files(out)} == before
