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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--recipe", "int9"), ("no recipe 'int9'", "int8")),
        (("--target", "ort-x68"), ("no target 'ort-x68'", "did you mean 'ort-x86'")),
    ],
)
def test_what_the_run_does_not_have_is_refused(
    finished: tuple[Project, Result], arguments: tuple[str, str], words: tuple[str, str]
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
