from itertools import pairwise, product

import numpy as np
import pytest

from quant.errors import BadInput
from quant.mixed.constraint import Constraint, fits
from quant.mixed.pareto import pareto_front


def instance() -> tuple[np.ndarray, Constraint]:
    generator = np.random.default_rng(3)
    omega = np.sort(generator.uniform(0, 1, (5, 3)), axis=1)[:, ::-1]
    cost = generator.integers(1, 9, (5, 1)) * np.array([4.0, 6.0, 8.0])
    return omega, Constraint("size", " MB", cost, np.inf, fixed=3.0)


def test_no_choice_beats_a_point_of_the_front() -> None:
    omega, size = instance()
    rows = np.arange(5)
    everything = [(size.total(np.array(c)), omega[rows, list(c)].sum()) for c in product(range(3), repeat=5)]

    front = pareto_front(omega, size, points=15)

    assert len(front) > 5
    for point in front:
        assert point.cost == pytest.approx(size.total(np.array(point.choice)))
        assert not any(cost <= point.cost and loss < point.loss - 1e-12 for cost, loss in everything), (
            "another choice loses less at the same cost"
        )
    assert front[0].cost == size.least
    assert front[-1].loss == pytest.approx(omega.min(axis=1).sum())
    assert all(a.cost < b.cost and a.loss > b.loss for a, b in pairwise(front))


def test_other_limits_hold_on_the_whole_front() -> None:
    omega, size = instance()
    times = Constraint("latency", " ms", np.tile([1.0, 2.0, 3.0], (5, 1)), 9.0)
    front = pareto_front(omega, size, [times])
    assert all(fits(np.array(point.choice), [times]) for point in front)
    assert front[-1].loss > omega.min(axis=1).sum()


def test_one_point_is_no_front() -> None:
    omega, size = instance()
    with pytest.raises(BadInput, match="at least 2 points"):
        pareto_front(omega, size, points=1)
