from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.runs import Run, comparable, entries, load_runs
from benchmarks.results import Summary, save_summary
from quant.errors import BadInput


def saved(folder: Path, summary: Summary) -> Path:
    folder.mkdir(parents=True)
    save_summary(summary, folder / "summary.json")
    return folder


def test_runs_of_the_same_folder_name_get_names_that_differ(tmp_path: Path, summary: Summary) -> None:
    paths = [saved(tmp_path / name, summary) for name in ("a/run", "b/run", "c/other")]
    assert [run.name for run in load_runs(paths)] == ["a/run", "b/run", "c/other"]
    assert [run.name for run in load_runs([paths[0] / "summary.json", paths[2]])] == ["run", "other"]


def test_a_run_given_twice_or_not_there_is_named(tmp_path: Path, summary: Summary) -> None:
    path = saved(tmp_path / "run", summary)
    with pytest.raises(BadInput, match="given twice"):
        load_runs([path, path / "summary.json"])
    with pytest.raises(BadInput, match=r"cannot read .*nowhere.*octavo bench"):
        load_runs([tmp_path / "nowhere"])


def test_colour_and_shape_together_are_unique(twelve: Summary) -> None:
    found = entries([Run("a", twelve), Run("b", twelve)])
    assert len({(e.color, e.shape) for e in found}) == len(found) == 24
    assert {e.color for e in found if e.is_reference} == {"--series-0"}
    assert found[13].label == "b · INT8 (ort-x86)"


def test_accuracy_of_other_images_stands_alone(summary: Summary, summary_dict: dict[str, Any]) -> None:
    other = Summary.model_validate(summary_dict | {"data": "other images"})
    groups = comparable([Run("a", summary), Run("b", other), Run("c", summary)])
    assert [[run.name for run in group] for group in groups] == [["a", "c"], ["b"]]


def test_a_profile_is_read_with_its_gaps(profiled: Run) -> None:
    profile = profiled.profiles["int8-ort-x86"]
    assert [layer.name for layer in profile.layers] == ["stem", "blocks.0.fc1", "blocks.0.qk", "head"]
    assert profile.layers[2].qsnr_db == float("inf")
    assert profile.layers[3].isolated_qsnr_db is None
    assert {(row.layer, row.bits): row.value for row in profile.sensitivity}["head", 4] == 0.25


def test_a_broken_profile_is_the_users_error(tmp_path: Path, summary: Summary) -> None:
    path = saved(tmp_path / "run", summary)
    folder = path / "int8-ort-x86" / "profile"
    folder.mkdir(parents=True)
    (folder / "statistics.csv").write_text("name,kind\nstem,conv\n")
    with pytest.raises(BadInput, match=r"statistics.csv is not whole: it lacks qsnr_db"):
        load_runs([path])
