from dataclasses import replace

import pytest

from benchmarks.bars.outcome import Outcome, mixed_bar, reached
from benchmarks.bars.recipe_rows import ROWS, Limit, config_of

GIVEN = Outcome(
    drop=1.0, top1=79.0, agreement=93.0, sqnr=12.0, seconds=50.0, reference_top1=80.0, correct=79, images=100
)


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (Limit("drop", "at most", 2.0), True),
        (Limit("drop", "at most", 1.9), False),
        (Limit("agreement", "at least", 92.0), True),
        (Limit("agreement", "at least", 92.1), False),
    ],
)
def test_the_mean_over_the_draws_is_held_to_the_limit(limit, kept):
    draws = [GIVEN, replace(GIVEN, drop=3.0, agreement=91.0)]
    assert reached(limit, draws) == kept


@pytest.mark.parametrize(
    ("points", "decibels", "kept"), [(0.5, 0.0, True), (0.0, 1.0, True), (0.4, 0.9, False), (-1.0, 1.5, True)]
)
def test_mixed_precision_must_gain_points_or_decibels(points, decibels, kept):
    uniform = [GIVEN, replace(GIVEN, top1=78.0)]
    mixed = [replace(o, top1=o.top1 + points, sqnr=o.sqnr + decibels) for o in uniform]
    bar = mixed_bar(uniform, mixed)
    assert bar.reached == kept
    assert f"{points:+.2f} points" in bar.remark


def test_rows_of_six_bits_and_below_are_drawn_three_times():
    for row in ROWS:
        whole = row.recipe.startswith(("int8", "fq_vit"))
        assert row.draws == (1 if whole else 3), row.name
    row = next(row for row in ROWS if row.name == "w6a6")
    seeds = {config_of(row, draw).calibration.shuffle_seed for draw in range(3)}
    assert len(seeds) == 3
