"""What the figures of the parity check mean."""

from dataclasses import replace
from typing import Any

import pytest

from export.parity.report import HALF_LIMITS, LIMITS, EndToEnd, LayerParity, ParityReport

GOOD = LayerParity("fc", "off", 0.0, 0, 10_000, 0.0, 0, 10_000)


def report(parity: float, quantization: float = 30.0, floor: float = 60.0) -> ParityReport:
    return ParityReport("t", 8, 8, floor, [GOOD], [EndToEnd("off", parity, quantization, 1.0)])


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        ({}, True),
        ({"input_differ": 0.001, "input_most": 1}, True),
        ({"input_differ": 0.0011, "input_most": 1}, False),
        ({"output_differ": 0.0011, "output_most": 1}, False),
        ({"input_differ": 0.0001, "input_most": 2}, False),
        ({"output_differ": 0.0001, "output_most": 2}, False),
        ({"output_differ": 1 / 80, "output_most": 1, "outputs": 80}, True),
        ({"output_differ": 3 / 80, "output_most": 1, "outputs": 80}, False),
        ({"output_differ": 1 / 80, "output_most": 2, "outputs": 80}, False),
        ({"output_differ": 0.4, "output_most": 2, "limits": HALF_LIMITS}, True),
        ({"output_differ": 0.6, "output_most": 2, "limits": HALF_LIMITS}, False),
        ({"output_differ": 0.002, "output_most": 1, "limits": replace(LIMITS, share=0.003)}, True),
    ],
)
def test_limits_of_a_layer(change: dict[str, Any], ok: bool) -> None:
    layer = replace(GOOD, **change)
    assert layer.ok == ok
    whole = replace(report(50.0), layers=[GOOD, replace(layer, layer="bad")])
    assert (whole.failure is None) == ok
    assert whole.to_dict()["layers"]["within_limits"] is ok
    if not ok:
        assert "first in layer 'bad' (optimizations off)" in str(whole.failure)


@pytest.mark.parametrize(
    ("parity", "quantization", "floor", "required"),
    [
        (38.0, 30.0, 60.0, 38.0),  # 8 dB above the quantization error
        (37.0, 30.0, 40.0, 37.0),  # as good as flips allow, less 3 dB
        (12.0, 30.0, 15.0, 12.0),
    ],
)
def test_the_easier_of_two_demands_counts(
    parity: float, quantization: float, floor: float, required: float
) -> None:
    kept = report(parity, quantization, floor)
    assert kept.floor_db(kept.end_to_end[0]) == required
    assert kept.failure is None
    missed = report(parity - 0.1, quantization, floor)
    assert f"required: {required:.1f} dB" in str(missed.failure)
    stages = [found.to_dict()["end to end, optimizations off"] for found in (kept, missed)]
    assert [stage["within_limits"] for stage in stages] == [True, False]


def test_a_parity_that_is_not_a_number_fails() -> None:
    assert report(float("nan")).failure is not None
