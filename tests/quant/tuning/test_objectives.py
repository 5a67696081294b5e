import itertools

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor

from quant.tuning.objectives import closeness, pair_order, pearson, rank_loss, sample_pairs


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_pearson_is_scipys() -> None:
    a, b = normal(3, 40), normal(3, 40, seed=1) + normal(3, 40)
    expected = [pearsonr(x, y).statistic for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True)]
    # both in float64, sums of 40 terms
    np.testing.assert_allclose(pearson(a, b, (1,)).numpy(), expected, rtol=1e-12)


def test_pearson_takes_several_axes_together() -> None:
    a, b = normal(4, 5, 6), normal(4, 5, 6, seed=1) - normal(4, 5, 6)
    columns = [
        pearsonr(a[:, :, i].double().flatten().numpy(), b[:, :, i].double().flatten().numpy()).statistic
        for i in range(6)
    ]
    np.testing.assert_allclose(pearson(a, b, (0, 1)).numpy(), columns, rtol=1e-12)


def test_a_constant_output_correlates_with_nothing() -> None:
    assert pearson(torch.ones(2, 8), normal(2, 8), (1,)).tolist() == [0.0, 0.0]


def test_closeness_in_mse_is_the_negative_mean_square() -> None:
    a, b = normal(7, 11), normal(7, 11, seed=1)
    expected = -((a.double() - b.double()).numpy() ** 2).mean(axis=0)
    # differences and squares are rounded to float32
    np.testing.assert_allclose(closeness("mse", a, b, (0,)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("theta", [0.0, 0.2, 3.0])
def test_rank_loss_is_the_papers_sum_over_its_number_of_terms(theta: float) -> None:
    wanted = normal(2, 3, 9)
    found = wanted + 0.5 * normal(2, 3, 9, seed=1)
    wanted[0, 0, 3] = wanted[0, 0, 5]  # a tie has sign 0
    total, terms = 0.0, 0
    for b, k in itertools.product(range(2), range(3)):
        for i, j in itertools.combinations(range(9), 2):
            sign = np.sign(float(wanted[b, k, i]) - float(wanted[b, k, j]))
            total += max(0.0, theta - (float(found[b, k, i]) - float(found[b, k, j])) * sign)
            terms += 1
    pairs = sample_pairs(9, 1000, seed=0)
    measured = rank_loss(found, pair_order(wanted, pairs), pairs, theta)
    assert float(measured) == pytest.approx(total / terms, rel=1e-6)  # differences in float32


def test_order_kept_with_the_margin_costs_nothing_and_reversed_order_does() -> None:
    wanted = torch.arange(5.0)
    pairs = sample_pairs(5, 100, seed=0)
    order = pair_order(wanted, pairs)
    assert float(rank_loss(2 * wanted, order, pairs, 0.5)) == 0.0
    assert float(rank_loss(-wanted, order, pairs, 0.0)) == 2.0  # mean distance of two of 0 … 4


def test_pairs_are_distinct_ordered_and_repeatable() -> None:
    drawn = sample_pairs(20, 50, seed=3)
    assert drawn.shape == (2, 50)
    assert bool((drawn[0] < drawn[1]).all())
    assert len({tuple(pair) for pair in drawn.T.tolist()}) == 50
    assert torch.equal(drawn, sample_pairs(20, 50, seed=3))
    assert not torch.equal(drawn, sample_pairs(20, 50, seed=4))
    everything = {tuple(pair) for pair in sample_pairs(6, 15, seed=0).T.tolist()}
    assert everything == set(itertools.combinations(range(6), 2))
