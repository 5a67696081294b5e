"""`octavo profile`, on the model of two linear layers."""

import csv
import json

import pytest
from typer.testing import Result

from tests.octavo.project import Project, call, check_refused


def test_profile_names_the_worst_layer_and_leaves_its_files(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    result = call("profile", project.out, "--target", "tensorrt", "--images", 5)
    assert result.exit_code == 0, result.output
    assert "Worst layer: " in result.stdout
    folder = project.out / "int8-tensorrt" / "profile"
    with (folder / "statistics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["first", "second"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["images"] == 5
    assert (summary["recipe"], summary["target"]) == ("int8", "tensorrt")
    assert summary["end_to_end"]["sqnr_db"] > 20
    assert (folder / "plots" / "qsnr_layers.svg").is_file()
    assert not list(project.out.rglob(".profile*"))


def test_the_first_target_is_the_default_and_its_formats_are_used(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    for arguments in ((), ("--target", "tensorrt")):
        assert call("profile", project.out, *arguments).exit_code == 0
    found = [
        json.loads((project.out / f"int8-{target}" / "profile" / "summary.json").read_text())
        for target in ("ort-x86", "tensorrt")
    ]
    assert found[0]["images"] == 12
    # Symmetric activations of TensorRT round otherwise than the affine ones of ONNX Runtime.
    assert found[0]["end_to_end"]["sqnr_db"] != found[1]["end_to_end"]["sqnr_db"]


def test_sensitivity_is_measured_beside_the_same_profile(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    folder = project.out / "int8-ort-x86" / "profile"
    assert call("profile", project.out).exit_code == 0
    without = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    found = []
    for _ in range(2):
        result = call("profile", project.out, "--sensitivity", "kl, hessian", "--bits", "8,4")
        assert result.exit_code == 0, result.output
        assert "Most sensitive at 4 bits by hessian: " in result.stdout
        found.append({f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()})
    assert found[0] == found[1]
    assert {file.as_posix() for file in found[0].keys() - without.keys()} == {
        *("sensitivity.csv", "plots/sensitivity_kl.svg", "plots/sensitivity_hessian.svg", "plots/pareto.svg")
    }
    assert {file.as_posix() for file in without if without[file] != found[0][file]} == {"summary.json"}
    with (folder / "sensitivity.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    layers = [(name, bits) for name in ("first", "second") for bits in ("4", "8")]
    assert [(row["layer"], row["bits"]) for row in rows] == layers
    for narrow, wide in (rows[:2], rows[2:]):
        assert float(narrow["kl"]) > float(wide["kl"]) > 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["sensitivity"]["images"] == 12
    assert [point["bits"] for point in summary["sensitivity"]["pareto"]["uniform"]] == [4, 8]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sensitivity", "kl,hesian"), ("unknown sensitivity metric 'hesian'", "hessian", "nuclear_norm")),
        (("--sensitivity", "kl", "--bits", "4,9"), ("9 bits cannot be chosen", "2, 3, 4")),
        (("--recipe", "int9"), ("no recipe 'int9'", "int8")),
        (("--target", "ort-x68"), ("no target 'ort-x68'", "did you mean 'ort-x86'")),
    ],
)
def test_what_the_run_does_not_have_is_refused(
    finished: tuple[Project, Result], arguments: tuple[str, ...], words: tuple[str, str]
) -> None:
    project, _ = finished
    check_refused(call("profile", project.out, *arguments), *words)


def test_profile_says_what_has_to_come_first(project: Project) -> None:
    project.out.mkdir()
    check_refused(call("profile", project.out), "octavo quantize")
    assert call("quantize", project.config, "--out", project.out).exit_code == 0
    assert call("profile", project.out).exit_code == 0
    (project.out / "int8" / "calibration.safetensors").unlink()
    check_refused(call("profile", project.out), "calibration.safetensors")
