import copy
from typing import Any

import numpy as np
import pytest

from benchmarks.bars.overhead import overhead_bar
from benchmarks.bars.trust import trust_bars
from benchmarks.results import Summary

Document = dict[str, Any]


def runs(document: Document, ratios: list[float], noise: float = 0.01) -> list[Summary]:
    """Runs whose INT8 variant has these speed-ups, and 5 processes that differ by 1 %."""
    found = []
    for seed, ratio in enumerate(ratios):
        generator = np.random.default_rng(seed)
        new = copy.deepcopy(document)
        new["variants"] = new["variants"][:2]
        for variant, ms in zip(new["variants"], (20.0, 20.0 / ratio), strict=True):
            (entry,) = variant["latency"] = variant["latency"][:1]
            times = ms * np.exp(generator.normal(0, 0.01, (5, 1))) * np.ones((5, 8))
            entry["samples_ms"] = times.ravel().tolist()
        entry["speedup"] = {"value": ratio, "low": ratio - 0.01, "high": ratio + 0.01}
        interval = {"value": 1.0, "low": 1 - noise, "high": 1 + noise}
        new["noise"] = [{"batch": 1, "threads": 2, "ratio": interval}]
        found.append(Summary.model_validate(new))
    return found


def test_equal_runs_reach_every_bar(summary_dict: Document) -> None:
    bars = trust_bars({"m": runs(summary_dict, [1.40, 1.42, 1.41])})
    assert [bar.reached for bar in bars] == [True] * 4
    assert bars[0].measured == pytest.approx(100 * (1.41 / (1.40 * 1.41 * 1.42) ** (1 / 3) - 1), abs=1)
    assert [bar.measured for bar in bars[1:]] == [6, 6, 6]


def test_a_ratio_that_does_not_repeat_misses_its_bar_unless_it_was_flagged(summary_dict: Document) -> None:
    repeat, null, *_ = trust_bars({"m": runs(summary_dict, [1.2, 1.5])})
    assert (repeat.reached, null.reached) == (False, False)
    assert repeat.measured == pytest.approx(100 * ((1.5 / 1.2) ** 0.5 - 1))
    repeat, *_ = trust_bars({"m": runs(summary_dict, [1.2, 1.5], noise=0.2)})
    assert repeat.reached
    assert "2 ratios were flagged" in repeat.remark


def test_the_overhead_is_measured() -> None:
    bar = overhead_bar()
    # Checking a feed takes some microseconds; a busy machine may make that tens of them.
    assert 0 < bar.measured < 10
