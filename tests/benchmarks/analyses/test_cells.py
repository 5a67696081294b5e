from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks.analyses.cells import Absent, CellsOptions, Pair, cells_of
from benchmarks.analyses.findings import Cell, Findings, Table
from benchmarks.results import Summary
from quant.errors import BadInput

OPTIONS = CellsOptions(
    names="{weights}_{scales}_{bits}",
    axes={"weights": ("tensor", "channel"), "scales": ("standard", "ranking"), "bits": ("8", "4")},
    absent=(Absent(cell={"scales": "ranking"}, reason="a CNN has no attention"),),
    pairs=(
        Pair(axis="weights", base="tensor", change="channel"),
        Pair(axis="scales", base="raw", change="standard"),
    ),
    best_of="bits",
)


def variant(name: str, correct: int, mj: float, mib: int = 4, target: str = "ort-x86") -> dict[str, Any]:
    """200 images, of which FP32 has 160 right; arithmetic is half of the energy."""
    flips = {"better": max(0, correct - 160) + 2, "worse": max(0, 160 - correct) + 2, "p_value": 1.0}
    accuracy = {
        "n": 200,
        "correct": correct,
        "top1": correct / 200,
        "top5": 0.9,
        "precision": 0.8,
        "recall": 0.8,
        "f1": 0.8,
        "classes": 10,
        "ci95": {"low": 0.7, "high": 0.9},
        "agreement": 0.95,
        "flips": flips,
        "sqnr_db": correct / 10,
    }
    energy = {"modelled_mj": mj, "arithmetic_mj": mj / 2, "weights_mj": mj / 4, "activations_mj": mj / 4}
    about = {"target": target, "file": f"{name}/model.onnx", "size_bytes": mib * 2**20}
    return {"name": f"{name}-{target}", **about, "accuracy": accuracy, "energy": energy}


@pytest.fixture
def grid(summary_dict: dict[str, Any]) -> Summary:
    """A CNN's grid: one cell short of whole, one recipe with another label, one that is named otherwise."""
    float_model = variant("fp32", 160, 10.0, 16) | {"name": "fp32"}
    float_model["accuracy"] |= {"agreement": None, "flips": None, "sqnr_db": None}
    float_model["energy"]["arithmetic_mj"] = 8.0
    variants = [
        float_model,
        variant("tensor_standard_8", 158, 2.0),
        variant("tensor_standard_4", 100, 1.0, 2),
        variant("channel_standard_8", 161, 2.0),
        variant("channel_raw_8", 157, 2.0),
        variant("channel_raw_4", 150, 1.0, 2),
        variant("int8", 161, 2.0),
        variant("tensor_standard_8", 10, 2.0, target="tensorrt"),
    ]
    return Summary.model_validate(summary_dict | {"variants": variants})


@pytest.fixture
def found(grid: Summary) -> Findings:
    return cells_of(grid, "ort-x86", OPTIONS)


def rows_of(table: Table) -> dict[Cell, dict[str, Cell]]:
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_every_cell_has_a_row_and_those_without_figures_say_why(found: Findings) -> None:
    rows = rows_of(found.tables[0])
    assert list(rows) == [
        "fp32",
        *(f"{w}_{s}_{b}" for w in ("tensor", "channel") for s in ("standard", "ranking") for b in ("8", "4")),
        *("channel_raw_8", "channel_raw_4", "int8"),
    ]
    assert rows["tensor_ranking_4"]["remark"] == "a CNN has no attention"
    assert rows["channel_standard_4"]["remark"] == "not in this run"
    figures = found.tables[0].columns[4:-1]
    for name in ("tensor_ranking_4", "channel_standard_4"):
        assert [rows[name][figure] for figure in figures] == [None] * len(figures)
    assert (rows["channel_raw_4"]["scales"], rows["channel_raw_4"]["bits"]) == ("raw", "4")
    assert (rows["int8"]["scales"], rows["int8"]["remark"]) == (None, "not a cell of the grid")


def test_figures_are_those_of_the_first_target_against_fp32(found: Findings) -> None:
    row = rows_of(found.tables[0])["tensor_standard_8"]
    assert row["drop, points"] == pytest.approx(1.0)  # 2 of 200 images
    assert row["top-1, %"] == pytest.approx(79.0)
    assert row["became right / wrong"] == "+2 / −4"
    assert row["less than FP32, %"] == pytest.approx(80.0)  # 2 of 10 mJ
    assert row["arithmetic less, %"] == pytest.approx(87.5)  # 1 of 8 mJ
    assert row["file, MiB"] == 4.0
    stored: Any = found.figures["cells"]
    assert stored["channel_standard_8"]["drop"] == pytest.approx(-0.5)
    assert stored["tensor_ranking_8"] == {
        "labels": {"weights": "tensor", "scales": "ranking", "bits": "8"},
        "absent": "a CNN has no attention",
    }


def test_labels_are_compared_where_both_cells_are(found: Findings) -> None:
    rows = [dict(zip(found.tables[1].columns, row, strict=True)) for row in found.tables[1].rows]
    assert [(row["change"], row["cell"]) for row in rows] == [
        ("tensor → channel", "standard, 8"),
        ("raw → standard", "channel, 8"),  # at 4 bits there is no standard cell
    ]
    assert rows[0]["top-1, points"] == pytest.approx(1.5)
    assert rows[1]["logit SQNR, dB"] == pytest.approx(0.4)
    assert rows[1]["energy, %"] == pytest.approx(0.0)


def test_the_best_recipe_of_a_width_may_lie_outside_the_grid_but_must_be_named_like_a_cell(
    found: Findings,
) -> None:
    best = rows_of(found.tables[2])
    assert (best["8"]["recipe"], best["4"]["recipe"]) == ("channel_standard_8", "channel_raw_4")
    assert "Chosen on the very images" in found.tables[2].note


def test_a_run_without_a_cell_is_refused(grid: Summary) -> None:
    with pytest.raises(BadInput, match=r"no recipe called like '\{weights\}_\{scales\}_\{bits\}'.*it has"):
        cells_of(grid, "ort-arm64", OPTIONS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": "{weights}_{bits}"}, "must have each of weights, scales, bits once"),
        ({"names": "{weights}_{scales}_{width}"}, "must have each of"),
        ({"best_of": "width"}, "there is no axis 'width'"),
        ({"absent": [{"cell": {"bits": "6"}, "reason": "x"}]}, "axis 'bits' has no label '6'"),
    ],
)
def test_options_that_speak_of_what_there_is_not_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CellsOptions.model_validate(OPTIONS.model_dump() | change)
