import numpy as np
import pytest

from quant.mixed.constraint import Constraint, fits
from quant.mixed.swap import swap_search

COST = np.tile([4.0, 6.0, 8.0], (4, 1))
BUDGET = [Constraint("bits", "", COST, 24.0)]
OMEGA = np.array([[4.0, 2.0, 1.0], [3.0, 1.0, 0.5], [5.0, 2.0, 0.2], [3.0, 2.0, 1.9]])
START = np.array([1, 1, 1, 1])


@pytest.mark.parametrize("seed", range(5))
def test_never_ends_worse_and_keeps_the_budget(seed: int) -> None:
    table = np.random.default_rng(seed).uniform(0, 1, (3, 3, 3, 3))
    measured: list[tuple[int, ...]] = []

    def measure(choice: np.ndarray) -> float:
        assert fits(choice, BUDGET)
        measured.append(tuple(choice))
        return float(table[tuple(choice)])

    best, trail = swap_search(START, OMEGA, BUDGET, measure, 10)

    assert table[tuple(best)] == min(table[c] for c in measured)
    assert 1 <= len(trail) <= 10
    assert len(set(measured)) == len(trail) + 1, "nothing is measured twice"
    assert [step.loss for step in trail] == [table[c] for c in measured[1:]]
    assert [step.accepted for step in trail] == [
        table[c] < min(table[d] for d in measured[: i + 1]) for i, c in enumerate(measured[1:])
    ]


def test_finds_what_the_sum_does_not_see() -> None:
    def measure(choice: np.ndarray) -> float:
        """Ω, but groups 0 and 1 hurt each other unless one of them has 8 bits."""
        interaction = 0.0 if max(choice[:2]) == 2 else 10.0
        return float(OMEGA[np.arange(4), choice].sum()) + interaction

    best, trail = swap_search(START, OMEGA, BUDGET, measure, 30)

    assert measure(best) < 10.0 < measure(START)
    assert max(best[:2]) == 2
    assert trail[0].predicted == pytest.approx(OMEGA[2, 2] - OMEGA[2, 1] + OMEGA[3, 0] - OMEGA[3, 1])
    assert (trail[0].up, trail[0].down) == (2, 3), "the most promising change by Ω comes first"


def test_stops_when_nothing_is_left_to_try() -> None:
    best, trail = swap_search(START, OMEGA, [Constraint("bits", "", COST, 24.0)], lambda _: 1.0, 1000)
    assert best.tolist() == START.tolist()
    assert len(trail) == 12  # each of 4 groups up, each of 3 others down; none up alone
