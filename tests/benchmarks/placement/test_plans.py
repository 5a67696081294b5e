"""Plans against an exhaustive search."""

from itertools import product

import numpy as np
import pytest

from benchmarks.placement.plans import make_plans
from benchmarks.placement.timing import UnitTime
from benchmarks.statistics import Ratio


def unit(name: str, quantized: float, plain: float) -> UnitTime:
    ratio = plain / quantized
    return UnitTime(name, quantized, plain, Ratio(ratio, 0.98 * ratio, 1.02 * ratio))


def test_a_layer_that_is_slower_quantized_stays_float_in_every_plan() -> None:
    times = [unit("a", 1.0, 2.0), unit("slow", 2.0, 1.5), unit("b", 1.0, 1.4)]
    plans = make_plans(times, {"a": 0.1, "slow": 0.0, "b": 0.4}, (1.0, 0.7))
    assert [plan.plain for plan in plans] == [("slow",), ("slow", "b")]
    assert plans[0].saved_ms == pytest.approx(1.4)
    assert plans[0].loss == pytest.approx(0.5)
    assert plans[1].saved_ms == pytest.approx(1.0)


def test_where_every_layer_is_faster_the_whole_saving_changes_nothing() -> None:
    times = [unit("a", 1.0, 2.0), unit("b", 1.0, 1.4)]
    assert make_plans(times, {"a": 0.1, "b": 0.4}, (1.0,)) == []
    assert make_plans([], {}) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.95, 0.8, 0.5])
def test_no_other_choice_keeps_the_share_and_loses_less(seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    times = [unit(f"u{i}", q, q + s) for i, (q, s) in enumerate(generator.uniform(0.1, 1, (10, 2)))]
    losses = {u.unit: float(loss) for u, loss in zip(times, generator.exponential(1, 10), strict=True)}
    (plan,) = make_plans(times, losses, (share,)) or [None]
    whole = sum(u.saved_ms for u in times)
    best = min(
        sum(losses[u.unit] for u, kept in zip(times, choice, strict=True) if kept)
        for choice in product((False, True), repeat=10)
        if sum(u.saved_ms for u, kept in zip(times, choice, strict=True) if kept) >= share * whole - 1e-9
    )
    found = sum(losses.values()) if plan is None else plan.loss
    assert found == pytest.approx(best)
    if plan is not None:
        assert plan.saved_ms >= share * whole - 1e-6


def test_equal_plans_are_told_once() -> None:
    times = [unit("a", 1.0, 2.0), unit("slow", 2.0, 1.0)]
    assert len(make_plans(times, {"a": 1.0, "slow": 1.0}, (1.0, 0.95, 0.9))) == 1
