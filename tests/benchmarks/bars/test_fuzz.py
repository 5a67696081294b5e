"""Spoiled models and engines are refused, and one that slips through is found."""

from pathlib import Path

import pytest

from benchmarks.bars import fuzz as module
from benchmarks.bars.corrupt_bytes import BYTES
from benchmarks.bars.corrupt_models import STRUCTURE
from benchmarks.bars.fuzz import KINDS, fuzz
from deploy.tensorrt.library import Library

CHANGES_OF_STRUCTURE = (
    *("nested_too_deep", "unknown_opset", "factors_that_do_not_fit", "constant_of_huge_size"),
    *("impossible_axis", "scale_that_is_none"),
)
CHOSEN = (
    *(f"bytes of a model: {name}" for name in ("truncate", "flip_bytes", "zero_span")),
    *(f"structure of a model: {name}" for name in CHANGES_OF_STRUCTURE),
    *(
        "engine: engine.plan: flip_bytes",
        "engine: engine.json: truncate",
        "engine: manifest_nested_too_deep",
    ),
    "engine: manifest_of_another_library",
)


def test_damage_of_each_sort_is_refused_or_leaves_a_valid_model(
    small: Path, rtx: Library, tmp_path: Path
) -> None:
    assert rtx.key == module.LIBRARY
    found = fuzz(small, len(CHOSEN), 0, tmp_path, CHOSEN)
    assert [v for v in found if v.outcome == "ESCAPED"] == []
    assert [v.kind for v in found] == list(CHOSEN)
    assert set(CHOSEN) <= set(KINDS)
    assert all(v.kind.startswith("bytes of a model") for v in found if v.outcome == "still valid")
    assert all(v.said for v in found if v.outcome == "refused")


def test_what_slips_through_is_found(
    small: Path, rtx: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rtx.key == module.LIBRARY
    kinds = ("structure of a model: no_graph", "bytes of a model: truncate")
    monkeypatch.setitem(STRUCTURE, "no_graph", lambda content, _: content)  # an engine is built of it
    monkeypatch.setitem(BYTES, "truncate", lambda *_: 1 / 0)  # type: ignore[arg-type, return-value]
    built, raised = fuzz(small, 2, 0, tmp_path, kinds)
    assert (built.outcome, built.said) == ("ESCAPED", "an engine was built")
    assert (raised.outcome, raised.said) == ("ESCAPED", "ZeroDivisionError: division by zero")
