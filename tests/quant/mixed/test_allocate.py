from itertools import product

import numpy as np
import pytest

from quant.errors import BadInput
from quant.mixed.allocate import allocate
from quant.mixed.constraint import Constraint, fits
from quant.mixed.thresholds import apply_thresholds, solve_thresholds

WIDTHS = np.array([4.0, 6.0, 8.0])


def instance(seed: int, groups: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ω, which spans orders of magnitude, and two costs."""
    generator = np.random.default_rng(seed)
    omega = np.sort(10.0 ** generator.uniform(-6, 1, (groups, 3)), axis=1)[:, ::-1]
    weights = generator.integers(1, 100, (groups, 1))
    times = np.sort(generator.uniform(1, 5, (groups, 3)), axis=1)
    return omega, weights * WIDTHS, times


def brute_force(omega: np.ndarray, constraints: list[Constraint]) -> float:
    """The least Σ Ω of all feasible choices."""
    rows = np.arange(len(omega))
    choices = (np.array(c) for c in product(range(omega.shape[1]), repeat=len(omega)))
    return min(float(omega[rows, c].sum()) for c in choices if fits(c, constraints))


def loss(omega: np.ndarray, choice: np.ndarray) -> float:
    return float(omega[np.arange(len(omega)), choice].sum())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [1, 2])
def test_no_other_choice_in_the_budgets_loses_less(seed: int, count: int) -> None:
    omega, sizes, times = instance(seed)
    middle = [Constraint("size", " MB", sizes, float(sizes[:, 1].sum()))]
    middle.append(Constraint("latency", " ms", times, float(times.mean(axis=1).sum()) + 1.0, fixed=1.0))
    constraints = middle[:count]

    choice = allocate(omega, constraints)

    assert fits(choice, constraints)
    assert loss(omega, choice) == pytest.approx(brute_force(omega, constraints), rel=1e-9)


def test_uniform_widths_fit_their_own_mean() -> None:
    # 1/7 three times is not 3/7 in floating point: the limit must not fail on rounding.
    cost = np.full((7, 1), 1 / 7) * WIDTHS
    omega = np.tile([1.0, 0.0, 0.0], (7, 1))
    choice = allocate(omega, [Constraint("mean bits", " bits", cost, 6.0)])
    assert loss(omega, choice) == 0.0


def test_a_budget_too_small_names_the_smallest() -> None:
    omega, sizes, _ = instance(0)
    least = float(sizes[:, 0].sum()) + 5.0
    with pytest.raises(BadInput, match=rf"size 1 MB cannot be met; the smallest possible is {least:g} MB"):
        allocate(omega, [Constraint("size", " MB", sizes, 1.0, fixed=5.0)])
    assert allocate(omega, [Constraint("size", " MB", sizes, least, fixed=5.0)]).tolist() == [0] * 6


def test_budgets_that_exclude_each_other_name_the_factor_that_helps() -> None:
    # Two groups, of which one is cheap in one budget at few bits and the other only at many bits.
    first, second = np.array([[1.0, 3.0], [1.0, 3.0]]), np.array([[3.0, 1.0], [3.0, 1.0]])
    constraints = [Constraint("a", "", first, 3.0), Constraint("b", "", second, 3.0)]
    with pytest.raises(BadInput, match=r"all of them 1\.334 times as large can \(a 4, b 4\)"):
        allocate(np.ones((2, 2)), constraints)


def test_thresholds_count_how_many_a_score_reaches() -> None:
    assert apply_thresholds(np.array([0.1, 0.5, 0.9, 0.7]), [0.5, 0.8]).tolist() == [0, 1, 2, 1]
    with pytest.raises(BadInput, match="must ascend"):
        apply_thresholds(np.array([0.1]), [0.8, 0.5])


@pytest.mark.parametrize("seed", range(4))
def test_solved_thresholds_are_the_best_thresholds(seed: int) -> None:
    omega, sizes, _ = instance(seed)
    constraints = [Constraint("size", " MB", sizes, float(sizes[:, 1].sum()))]
    scores = omega[:, 0]
    values = [-np.inf, *np.sort(scores), np.inf]
    rules = [(low, high) for low in values for high in values if low <= high]
    applied = [apply_thresholds(scores, rule) for rule in rules]
    expected = min(loss(omega, c) for c in applied if fits(c, constraints))

    choice = solve_thresholds(omega, constraints)

    assert fits(choice, constraints)
    assert loss(omega, choice) == expected
    assert (np.diff(choice[np.argsort(scores)]) >= 0).all()
    assert loss(omega, allocate(omega, constraints)) <= expected
