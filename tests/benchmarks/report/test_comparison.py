import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from benchmarks.report.audit import audit_grids
from benchmarks.report.cells import DASH, decimals, label, plain, size
from benchmarks.report.comparison import comparison
from benchmarks.report.details import environment_grid, parity_grids, settings_grid
from benchmarks.report.markdown import markdown_summary
from benchmarks.report.terminal import print_summary
from benchmarks.results import Summary
from quant.errors import BadInput


def row(summary: Summary, name: str) -> tuple[str, ...]:
    return next(r for r in comparison(summary).rows if r[0] == name)


def terminal(summary: Summary, width: int = 100) -> str:
    text = io.StringIO()
    print_summary(summary, Console(file=text, width=width))
    return text.getvalue()


def test_each_figure_stands_in_the_column_of_its_variant(summary: Summary) -> None:
    assert comparison(summary).head == ("", "FP32", "INT8 (ort-x86)", "INT8 (tensorrt)")
    assert row(summary, "Top-1 accuracy") == ("Top-1 accuracy", "73.8%", "73.0%", DASH)
    assert row(summary, "Speed-up") == ("Speed-up", DASH, "1.38× (1.35 to 1.41)", DASH)
    assert row(summary, "Integer share") == ("Integer share", DASH, "90.0%", DASH)
    assert row(summary, "File size") == ("File size", "23.0 MiB", "6.0 MiB", "23.0 MiB")


def test_noise_stands_with_the_reference(summary_dict: dict[str, Any]) -> None:
    def told(low: float, high: float) -> tuple[str, ...]:
        noise = [{"batch": 1, "threads": 2, "ratio": {"value": 1.0, "low": low, "high": high}}]
        return row(Summary.model_validate(summary_dict | {"noise": noise}), "Against itself")

    assert told(0.98, 1.02) == ("Against itself", "0.98 to 1.02×", DASH, DASH)
    assert told(0.80, 1.02)[1] == "0.80 to 1.02×: too noisy to tell"


def test_energy_says_which_one_it_is(summary_dict: dict[str, Any]) -> None:
    given = {"modelled_mj": 12.5, "arithmetic_mj": 2.0, "weights_mj": 10.0, "activations_mj": 0.5}
    summary_dict["variants"][0]["energy"] = given
    summary_dict["variants"][1]["energy"] = given | {"modelled_mj": 5.0, "ratio": 2.5, "measured_mj": 40.0}
    summary = Summary.model_validate(summary_dict)
    assert row(summary, "Energy, modelled")[1:3] == ("12.5 mJ", "5.00 mJ (2.50× less)")
    assert row(summary, "Energy, counted")[1:3] == (DASH, "40.0 mJ")


def test_the_reference_comes_first_whatever_the_order(summary_dict: dict[str, Any]) -> None:
    summary_dict["variants"].reverse()
    assert comparison(Summary.model_validate(summary_dict)).head[1] == "FP32"


def test_every_batch_size_has_its_own_group(summary: Summary) -> None:
    groups = [r[0] for r in comparison(summary).rows if len(r) == 1]
    assert groups == ["Accuracy", "Speed, batch 1, 2 threads", "Speed, batch 4, 2 threads", "Cost"]


def test_unmeasured_figures_leave_neither_rows_nor_the_word_none(summary_dict: dict[str, Any]) -> None:
    for variant in summary_dict["variants"]:
        variant |= dict.fromkeys(("accuracy", "latency", "memory", "audit", "parity", "note", "size_ratio"))
    bare = Summary.model_validate(summary_dict)
    assert [r[0] for r in comparison(bare).rows] == ["Cost", "File size"]
    assert audit_grids(bare) == parity_grids(bare) == ()
    for text in (terminal(bare), markdown_summary(bare)):
        assert "None" not in text
        assert "23.0 MiB" in text


def test_audit_counts_what_the_audit_counts(summary: Summary) -> None:
    overview, unfused, left, leftovers = audit_grids(summary)
    counts = {name: cells for name, *cells in overview.rows}
    assert counts["Multiplications on integers"] == ["90.0%"]  # 900 of 1000
    assert counts["Of linear layers and convolutions"] == ["93.8%"]  # 900 of 960
    assert counts["Quantized, but run in float"] == ["1"]
    assert counts["Of these, wasted"] == ["2"]
    assert unfused.rows == (("blocks.0.mlp.fc1", "6.0%", "the input <q> has two readers; give each its own"),)
    assert left.rows == (("MatMul", "activation", "1", "4.0%", "blocks.0.attn"),)
    assert leftovers.rows[0] == ("Q/DQ pair around float operators", "DequantizeLinear", "2", "wasted")


def test_an_unexplained_float_multiplication_is_still_listed(changed: Callable[..., Summary]) -> None:
    item = {"module": "head", "op": "MatMul", "kind": "linear", "macs": 5, "integer": False, "intended": True}
    audit = {"total_share": 0.0, "weight_share": 0.0, "multiplications": [item]}
    unfused = audit_grids(changed(audit=audit))[1]
    assert unfused.rows == (("head", "100.0%", "no known rule explains it"),)


def test_layers_of_which_only_the_weight_is_quantized_stand_apart(changed: Callable[..., Summary]) -> None:
    item = {"op": "MatMulNBits", "kind": "linear", "macs": 5, "integer": False, "intended": False}
    only_weight = [{"rule": "weight-only", "reason": "weight-only: 4-bit weights", "remedy": ""}]
    items = [item | {"module": "fc1", "findings": only_weight}, item | {"module": "head", "findings": []}]
    audit = {"total_share": 0.0, "weight_share": 0.0, "multiplications": items}
    weights, floats = audit_grids(changed(audit=audit))[1:]
    assert weights.title.startswith("Only the weight is quantized")
    assert [row[-1] for row in weights.rows] == ["fc1"]
    assert floats.title.startswith("Left in float by the recipe")
    assert [row[-1] for row in floats.rows] == ["head"]


def test_a_record_that_is_no_audit_is_named(changed: Callable[..., Summary]) -> None:
    with pytest.raises(BadInput, match="int8-ort-x86 cannot be read: total_share"):
        audit_grids(changed(audit={"share": 1}))


def test_parity_is_a_table_of_stages_or_of_figures(summary: Summary, changed: Callable[..., Summary]) -> None:
    stages = parity_grids(summary)[0]
    assert stages.head == ("", "max abs", "sqnr db", "top1 agreement")
    assert stages.rows[1] == ("onnx vs simplified", "0", "∞", "1")
    flat = parity_grids(changed(parity={"max_abs": 0.5, "passed": True}))[0]
    assert flat.rows == (("max abs", "0.5"), ("passed", "yes"))


def test_environment_and_settings_are_flat_text(summary: Summary) -> None:
    environment = dict(environment_grid(summary).rows)
    assert environment["Octavo commit"] == "0123456789ab"
    assert environment["Frequency governor"] == "not readable"
    assert dict(settings_grid(summary).rows)["calibration.method"] == "percentile"


def test_markdown_keeps_names_literal_and_rows_whole(changed: Callable[..., Summary]) -> None:
    text = markdown_summary(changed(note="a | b\n*c*"))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in table} == {5}
    assert r"a \| b \*c\*" in text
    assert "vit\\_tiny" in text


def test_terminal_reads_no_markup_in_names(changed: Callable[..., Summary]) -> None:
    assert "[bold]kept[/bold]" in terminal(changed(note="[bold]kept[/bold]"), width=160)


def test_labels_and_numbers() -> None:
    assert [label(n) for n in ("fp32", "int8", "int8-ort-x86", "uint8-a", "mine")] == [
        "FP32",
        "INT8",
        "INT8 (ort-x86)",
        "UINT8 (a)",
        "mine",
    ]
    assert [size(n) for n in (12, 2048, 3 * 2**20)] == ["12 B", "2.0 KiB", "3.0 MiB"]
    assert [decimals(x) for x in (1234.5, 12.34, 1.234, 0.01234, float("inf"), float("-inf"))] == [
        "1234",
        "12.3",
        "1.23",
        "0.0123",
        "∞",
        "−∞",
    ]
    assert [plain(x) for x in (None, True, 3, 0.123456, [], ["a", 1], {"k": None})] == [
        DASH,
        "yes",
        "3",
        "0.1235",
        "none",
        "a, 1",
        "k: –",
    ]


def test_many_variants_have_a_row_each_in_the_terminal(twelve: Summary) -> None:
    lines = terminal(twelve, width=90).splitlines()
    rows = [line for line in lines if line.startswith("│") and "%" in line]
    assert len(rows) == 12
    for variant, row in zip(twelve.variants, rows, strict=True):
        assert variant.accuracy is not None
        assert f"{100 * variant.accuracy.top1:.1f}%" in row
        assert "…" not in row
