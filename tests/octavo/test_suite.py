"""Suites, plug-ins, profiles and analyses of a configuration, through the command line."""

import json
from pathlib import Path

import pytest
import yaml

from tests.octavo.project import Project, call, check_refused

PLUGIN = """
from pydantic import BaseModel, ConfigDict
from benchmarks.analyses.findings import Findings, Table
from benchmarks.analyses.registry import register_analysis

class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    factor: int = 1

@register_analysis("octavo_test_count", Options)
def count(line, options, progress):
    summary = line.workspace.path("summary.json").read_text()
    rows = ((line.config.recipe[0], options.factor * len(line.recipes)),)
    return Findings((Table("recipes", "How many recipes", ("first", "count"), rows),), remarks=("A & B.",))
"""


@pytest.fixture
def suite(project: Project) -> Path:
    (project.folder / "extra").mkdir()
    (project.folder / "extra" / "octavo_test_plugin.py").write_text(PLUGIN)
    shared = project.settings | {
        "targets": ["ort-x86"],
        "code": "extra",
        "plugins": ["octavo_test_plugin"],
        "analyses": [{"name": "octavo_test_count", "factor": 3}],
    }
    runs = {
        "first": {"profile": {"images": 4}},
        "second": {"recipe": ["int8_symmetric"], "analyses": None},
    }
    path = project.folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"shared": shared, "runs": runs}))
    return path


def test_each_run_of_a_suite_has_its_folder_and_all_have_one_report(suite: Path, project: Project) -> None:
    result = call("run", suite, "--out", project.out)
    assert result.exit_code == 0, result.output
    first, second = project.out / "first", project.out / "second"
    found = json.loads((first / "analyses" / "octavo_test_count" / "summary.json").read_text())
    assert found["tables"][0]["rows"] == [["int8", 3]]
    assert (first / "int8-ort-x86" / "profile" / "statistics.csv").is_file()
    assert (second / "int8_symmetric-ort-x86" / "model.onnx").is_file()
    assert not (second / "analyses").exists()
    page, markdown = ((project.out / name).read_text() for name in ("report.html", "report.md"))
    assert "How many recipes" in page
    assert "A &amp; B." in page
    assert "| int8 | 3 |" in markdown

    again = call("run", suite, "--out", project.out, "--only", "first")
    assert again.exit_code == 0, again.output
    for step in ("profile int8-ort-x86", "analyse octavo_test_count", "bench"):
        assert f"{step}: nothing has changed, skipped" in again.stderr
    assert "== second" not in again.stderr

    (first / "analyses" / "octavo_test_count" / "recipes.csv").write_text("changed by hand")
    assert call("analyse", first).exit_code == 0
    assert (first / "analyses" / "octavo_test_count" / "recipes.csv").read_text() == "first,count\nint8,3\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"runs": {"first": {"recipe": "int9"}}}, "run 'first': no recipe"),
        (
            {"runs": {"first": {"analyses": [{"name": "octavo_test_cuont"}]}}},
            "did you mean 'octavo_test_count'",
        ),
        (
            {"runs": {"first": {"analyses": [{"name": "octavo_test_count", "facto": 1}]}}},
            "unknown key 'facto'",
        ),
        (
            {"runs": {"first": {"plugins": ["no_such_module"]}}},
            "the plug-in 'no_such_module' cannot be imported",
        ),
        ({"runs": {"first": {"code": "nowhere"}}}, "is not a folder (code of the configuration)"),
        ({"runs": {"first": {"profile": {"sensitivity": ["kll"]}}}}, "kll"),
        ({"runs": {"first": {"profile": {"recipes": ["int4"]}}}}, "no recipe 'int4'"),
        ({"runs": {"../up": {}}}, "a run is called '../up'"),
        ({"runs": {}}, "runs"),
    ],
)
def test_what_is_wrong_with_one_run_stops_all_before_anything_is_written(
    suite: Path, project: Project, change: dict[str, object], says: str
) -> None:
    suite.write_text(yaml.safe_dump(yaml.safe_load(suite.read_text()) | change))
    check_refused(call("run", suite, "--out", project.out), says)
    assert not project.out.exists()


def test_a_suite_is_for_run_alone_and_only_for_suites(suite: Path, project: Project) -> None:
    check_refused(call("quantize", suite, "--out", project.out), "is a suite of several runs")
    check_refused(call("run", project.config, "--out", project.out, "--only", "first"), "is one run")
    check_refused(
        call("run", suite, "--out", project.out, "--only", "third"), "no run 'third'", "first, second"
    )
