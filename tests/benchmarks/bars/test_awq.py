from typing import Any

import pytest

from benchmarks.bars.awq import accuracy_bars, error_bars, file_bars, size_bars
from tests.benchmarks.analyses.runs import summary_of


def figures(smaller: float, *errors: float, executed: int | None = None) -> dict[str, Any]:
    layers = {
        name: {"output_error": error, "bytes": 10, "format_bytes": 10}
        for name, error in zip(("a", "b"), errors, strict=True)
    }
    return {"smaller": smaller, "executed": len(errors) if executed is None else executed, "layers": layers}


def found() -> dict[str, Any]:
    return {
        "rtn_w4_g32": figures(6.2, 0.10, 0.20),
        "awq_w4_g32": figures(6.2, 0.08, 0.15),
        "rtn_w4_g64": figures(7.0, 0.10, 0.20),
        "awq_w4_g64": figures(7.0, 0.09, 0.19),
        "awq_gptq_w4_g64": figures(7.0, 0.50, 0.50),  # judged by nobody
        "rtn_w8_g64": figures(3.7, 0.01, 0.02),
        "awq_w8_g64": figures(3.7, 0.01, 0.02),
    }


def test_one_layer_that_is_no_better_than_plain_rounding_is_enough_to_miss() -> None:
    assert [bar.reached for bar in error_bars("m", found())] == [True, True]
    worse = found()
    worse["awq_w4_g64"]["layers"]["b"]["output_error"] = 0.20
    small, large = error_bars("m", worse)
    assert small.reached
    assert not large.reached
    assert (large.measured, large.limit) == (1, 2)
    assert "0.900 to 1.000 times plain rounding's, most at b" in large.remark


def test_one_image_of_a_hundred_is_more_than_awq_may_lose() -> None:
    right = {"fp32": 97, "awq_w4_g32-ort-x86": 97, "awq_w4_g64-ort-x86": 96, "awq_w8_g64-ort-x86": 98}
    bars = accuracy_bars("m", found(), summary_of(right))
    assert [bar.measured for bar in bars] == pytest.approx([0.0, 1.0, -1.0])
    assert [bar.reached for bar in bars] == [True, False, True]


def test_sizes_are_those_of_the_largest_groups() -> None:
    eight, bounded, four = size_bars("m", found())
    assert [bar.measured for bar in (eight, bounded, four)] == [3.7, 3.7, 7.0]
    assert all(bar.reached for bar in (eight, bounded, four))
    assert "awq_w4_g32: 6.20×" in four.remark
    larger = found() | {"awq_w4_g64": figures(6.3, 0.09, 0.19)}
    assert not size_bars("m", larger)[2].reached


def test_a_layer_that_is_not_stored_or_run_as_promised_is_found() -> None:
    assert all(bar.reached for bar in file_bars("m", found()))
    wrong = found() | {"awq_w8_g64": figures(3.7, 0.01, 0.02, executed=1)}
    wrong["rtn_w8_g64"]["layers"]["a"]["bytes"] = 11
    stored, executed = file_bars("m", wrong)
    assert (stored.measured, executed.measured, executed.limit) == (1, 13, 14)
    assert not stored.reached
    assert not executed.reached
