"""`octavo place`, on the model of two linear layers."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import Result

from benchmarks.placement import run as module
from benchmarks.placement.plans import Plan
from benchmarks.results import load_summary
from quant.recipe import load_recipe
from tests.octavo.project import Project, call, check_refused

FOLDER = "placement/int8-ort-x86"


@pytest.fixture
def one_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers this small are slower in integers, or not, as chance has it."""
    plan = Plan(1.0, ("second",), 0.1, 0.1)
    monkeypatch.setattr(module, "make_plans", lambda *_: [plan])


@pytest.mark.usefixtures("one_plan")
def test_it_leaves_a_run_of_its_own_and_names_a_recipe(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    before = (project.out / "summary.json").read_bytes()
    result = call("place", project.out)
    assert result.exit_code == 0, result.output
    folder = project.out / FOLDER
    summary = load_summary(folder / "summary.json")
    assert {v.name for v in summary.variants} >= {"fp32", "int8-ort-x86", "int8_placed100-ort-x86"}
    placed = load_recipe(folder / "recipes" / "int8_placed100.yaml")
    assert placed.exclude == ("second",)
    start = load_recipe(folder / "recipes" / "int8.yaml")
    assert start.model_dump() == load_recipe("int8").model_dump()
    with (folder / "latency.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["bits"]) for row in rows] == [
        *(("first", "8"), ("first", "16")),
        *(("second", "8"), ("second", "16")),
    ]
    said = "".join(result.stdout.split())  # long paths are folded
    assert f"Therecipetotake:{folder}/recipes/int8" in said
    assert (project.out / "summary.json").read_bytes() == before

    again = json.loads(call("place", project.out, "--json").stdout)
    assert Path(again["recipe"]).parent == folder / "recipes"
    assert [unit["unit"] for unit in again["layers"]["times"]] == ["first", "second"]
    assert set(again["layers"]["losses"]) == {"first", "second"}
    assert all(loss > 0 for loss in again["layers"]["losses"].values())


@pytest.mark.usefixtures("one_plan")
def test_what_was_measured_is_not_measured_again(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    assert call("place", project.out).exit_code == 0
    table = (project.out / FOLDER / "layers.json").read_bytes()
    again = call("place", project.out)
    assert "place int8-ort-x86: nothing has changed, skipped" in again.stderr
    assert "bench: nothing has changed, skipped" in again.stderr
    assert (project.out / FOLDER / "layers.json").read_bytes() == table


def test_where_no_plan_differs_the_start_is_the_answer(
    finished: tuple[Project, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = finished
    monkeypatch.setattr(module, "make_plans", lambda *_: [])
    result = call("place", project.out)
    assert result.exit_code == 0, result.output
    assert "there is nothing to change" in result.stdout


def test_a_target_that_does_not_run_here_is_refused(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    check_refused(call("place", project.out, "--target", "tensorrt"), "tensorrt is not run on this machine")
    check_refused(call("place", project.out, "--recipe", "w6a6"), "no recipe 'w6a6'")


def test_models_have_to_be_lowered(project: Project) -> None:
    assert call("quantize", project.config, "--out", project.out).exit_code == 0
    check_refused(call("place", project.out), "does not exist; an earlier stage has to be run first")
