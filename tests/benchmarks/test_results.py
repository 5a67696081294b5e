import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import Summary, load_summary, save_summary
from quant.errors import BadInput


def test_a_summary_survives_the_file_even_with_infinite_sqnr(
    tmp_path: Path, summary_dict: dict[str, Any]
) -> None:
    summary_dict["variants"][1]["accuracy"]["sqnr_db"] = float("inf")
    summary = Summary.model_validate(summary_dict)
    path = tmp_path / "summary.json"
    save_summary(summary, path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    again = load_summary(path)
    assert again == summary
    assert again.others[0].accuracy is not None
    assert again.others[0].accuracy.sqnr_db == float("inf")
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, summary: Summary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BadInput, match="No space left"):
        save_summary(summary, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', "\x00\xff"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"summary\.json"):
        load_summary(path)


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="octavo bench"):
        load_summary(tmp_path / "summary.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 1}, "schema_version"),
        ({"surprise": 1}, "surprise"),
        ({"reference": "fp16"}, "fp16"),
        ({"created": "2026-11-20T10:15:00"}, "time zone"),
        ({"variants": []}, "variants"),
    ],
)
def test_what_does_not_fit_the_layout_is_refused(
    tmp_path: Path, summary_dict: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(summary_dict | change))
    with pytest.raises(BadInput, match=reason):
        load_summary(path)


def test_variant_names_must_differ(summary_dict: dict[str, Any]) -> None:
    summary_dict["variants"][2]["name"] = "fp32"
    with pytest.raises(ValueError, match="must differ"):
        Summary.model_validate(summary_dict)
