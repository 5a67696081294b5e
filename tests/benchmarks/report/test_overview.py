from collections.abc import Callable
from typing import Any

from benchmarks.report.energy import Energy, energy_of
from benchmarks.report.markdown import markdown_report
from benchmarks.report.overview import Figure, overview
from benchmarks.report.runs import Run
from benchmarks.results import Summary, Variant


def cell(summary: Summary, variant: str, group: str, column: str) -> Figure:
    table = overview([Run("main", summary)])
    titles = [title for title, span in table.groups for _ in range(span)]
    at = list(zip(titles, table.head, strict=True)).index((group, column)) - 1
    return next(cells[at] for e, cells in table.rows if e.variant.name == variant)


def test_figures_stand_under_their_titles_with_what_they_sort_by(summary: Summary) -> None:
    assert cell(summary, "int8-ort-x86", "Batch 4, 2 threads", "Speed-up") == Figure(
        "1.35×", "1.33–1.37", 1.35, "win"
    )
    assert cell(summary, "int8-ort-x86", "Accuracy", "Change").text == "−0.9"
    assert cell(summary, "int8-ort-x86", "Accuracy", "Change").tone == ""  # within chance
    assert cell(summary, "int8-tensorrt", "Accuracy", "Top-1").sort is None
    assert cell(summary, "fp32", "Cost", "File").sort == 23 * 2**20


def test_a_loss_beyond_chance_is_coloured_as_one(changed: Callable[..., Summary], summary: Summary) -> None:
    accuracy = summary.variants[1].model_dump()["accuracy"]
    accuracy |= {"correct": 200, "top1": 200 / 344, "flips": {"better": 1, "worse": 55, "p_value": 1e-9}}
    assert cell(changed(accuracy=accuracy), "int8-ort-x86", "Accuracy", "Change").tone == "loss"


def test_columns_nobody_measured_are_left_out(summary_dict: dict[str, Any]) -> None:
    for variant in summary_dict["variants"]:
        variant |= dict.fromkeys(("accuracy", "latency", "memory", "audit", "size_ratio"))
    table = overview([Run("main", Summary.model_validate(summary_dict))])
    assert table.head == ("Variant", "Target", "File")


def test_energy_is_the_modelled_one(summary: Summary) -> None:
    given = {"modelled_mj": 12.5, "arithmetic_mj": 2.0, "weights_mj": 10.0, "activations_mj": 0.5}
    variant = Variant.model_validate(summary.variants[0].model_dump() | {"energy": given})
    assert energy_of(variant) == Energy(12.5, "mJ per image, modelled")
    assert energy_of(summary.variants[0]) is None


def test_markdown_of_many_variants_fits_a_comment(twelve: Summary) -> None:
    text = markdown_report([Run("main", twelve)])
    assert len(text) < 65_536
    rows = [line for line in text.splitlines() if line.startswith("| int8\\_symmetric (ort-x86) ")]
    assert len(rows) == 1
    assert "0.70× (0.69–0.71)" in rows[0]
    assert "<details>" in text
    many = markdown_report([Run(f"run{i}", twelve) for i in range(12)])
    assert len(many) < 65_536
    assert "too long for a comment" in many


def test_markdown_of_several_runs_names_the_run(summary: Summary) -> None:
    text = markdown_report([Run("a|b", summary), Run("c", summary)])
    assert r"a\|b · INT8 (ort-x86)" in text
    assert "against the reference of the same run" in text
    assert text.count(summary.command) == 2
