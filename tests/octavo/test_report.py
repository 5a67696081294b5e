import csv
from pathlib import Path

import pytest

from benchmarks.results import Summary, save_summary
from tests.benchmarks.conftest import SUMMARY
from tests.octavo.project import call


def saved(folder: Path) -> Path:
    folder.mkdir()
    save_summary(Summary.model_validate(SUMMARY), folder / "summary.json")
    return folder


def test_every_file_that_is_asked_for_is_written(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    run, out = saved(tmp_path / "run"), tmp_path / "out"
    out.mkdir()
    options = {"--csv": "f.csv", "--parquet": "f.parquet", "--samples": "s.parquet", "--png": "charts"}
    done = call("report", run, *(word for name, file in options.items() for word in (name, out / file)))
    assert done.exit_code == 0
    assert "Top-1 accuracy" in done.stdout
    assert sorted(f.name for f in run.iterdir()) == ["report.html", "report.md", "summary.json"]
    assert sorted(f.name for f in out.iterdir()) == ["charts", "f.csv", "f.parquet", "s.parquet"]
    assert {f.read_bytes()[:4] for f in out.glob("*.parquet")} == {b"PAR1"}
    pictures = {f.stem for f in (out / "charts").iterdir()}
    assert {"accuracy", "accuracy-size", "memory", "size", "speedup-batch4-threads2"} <= pictures


def test_several_runs_go_to_a_folder_of_their_own(tmp_path: Path) -> None:
    runs = [saved(tmp_path / name) for name in ("before", "after")]
    refused = call("report", *runs)
    assert refused.exit_code == 2
    assert "add --out FOLDER" in refused.stderr
    done = call("report", *runs, "--out", tmp_path / "new" / "both", "--csv", tmp_path / "both.csv")
    assert done.exit_code == 0
    assert "before · INT8 (ort-x86)" in (tmp_path / "new" / "both" / "report.html").read_text()
    with (tmp_path / "both.csv").open(newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["before"] * 5 + ["after"] * 5
    assert not (runs[0] / "report.html").exists()


def test_nowhere_to_write_leaves_nothing_half_done(tmp_path: Path) -> None:
    run = saved(tmp_path / "run")
    refused = call("report", run, "--csv", tmp_path / "absent" / "f.csv")
    assert refused.exit_code == 2
    assert "cannot write" in refused.stderr
    assert [f.name for f in run.iterdir()] == ["summary.json"]
