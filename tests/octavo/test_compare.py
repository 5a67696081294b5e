"""`octavo compare --together`, on runs of the small model."""

import json
import shutil

from typer.testing import Result

from benchmarks.results import load_summary
from tests.octavo.project import Project, call, check_refused


def test_two_runs_are_timed_again_side_by_side(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    other = project.folder / "other"
    shutil.copytree(project.out, other)
    limit = ("--fail-if", "latency_p50 > +100000%")
    result = call("compare", project.out, other, "--together", "--json", *limit)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert "latencies: of the models of both runs, timed again side by side" in found["remarks"]
    before = load_summary(project.out / "summary.json")
    stored = {v.name: v.latency[0].median_ms for v in before.variants if v.latency}
    again = {c["variant"]: c["base"] for c in found["changes"] if c["figure"] == "latency_p50"}
    assert set(again) == set(stored)
    assert all(again[name] != stored[name] for name in stored), "they were timed anew"


def test_summaries_alone_cannot_be_timed(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    summary = project.out / "summary.json"
    check_refused(
        call("compare", summary, project.out, "--together"), "give their folders, not their summaries"
    )
