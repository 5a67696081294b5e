"""Multiplier-free weights against the published tables, and against errors computed here."""

import pytest
import torch
from torch import Tensor

from quant.energy.pann import (
    Candidate,
    additions_of,
    budget_of_bits,
    candidates,
    choose,
    expected_error,
    power,
    weight_codes,
    weight_step,
)
from quant.errors import BadInput

GENERATOR = torch.Generator()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR.manual_seed(seed))


@pytest.mark.parametrize(
    ("bits", "budget", "additions"),
    [
        (2, 10, (2.83, 2.00, 1.17, 0.75)),
        (3, 16.5, (5.00, 3.62, 2.25, 1.56)),
        (4, 24, (7.50, 5.50, 3.50, 2.50)),
        (6, 42, (13.5, 10.0, 6.50, 4.75)),
        (8, 64, (20.8, 15.5, 10.2, 7.50)),
    ],
)
def test_the_published_table(bits: int, budget: float, additions: tuple[float, ...]) -> None:
    assert budget_of_bits(bits) == budget
    found = candidates(budget, (3, 4, 6, 8))
    # Published with three digits; 20.83, 3.625 and 10.17 were cut or rounded.
    assert [c.additions for c in found] == pytest.approx(additions, abs=0.05)
    assert [power(c) for c in found] == pytest.approx([budget] * 4)


def test_a_budget_too_small_for_wide_inputs_leaves_the_narrow_ones() -> None:
    assert [c.activation_bits for c in candidates(3.0, (2, 4, 6, 8))] == [2, 4]
    with pytest.raises(BadInput, match="no addition"):
        candidates(3.0, (6, 8))


@pytest.mark.parametrize(("additions", "tolerance"), [(1.0, 0.05), (2.5, 0.01), (7.5, 0.01)])
def test_codes_spend_the_additions_asked_for(additions: float, tolerance: float) -> None:
    """Rounding is unbiased where steps are small; at R = 1 the mean code of a normal weight is 0.97."""
    weight = normal(64, 192) * 0.03
    step = weight_step(weight, additions)
    codes = weight_codes(weight, step)
    assert additions_of(codes) == pytest.approx(additions, rel=tolerance)
    assert float((codes * step - weight).abs().max()) <= step / 2 * (1 + 1e-6)  # nothing is clipped


def test_a_step_by_hand() -> None:
    weight = torch.tensor([[1.0, -2.0], [0.0, 5.0]])
    assert weight_step(weight, 4.0) == 0.5  # 8 / (4 · 4)
    assert weight_codes(weight, 0.5).tolist() == [[2, -4], [0, 10]]
    assert additions_of(weight_codes(weight, 0.5)) == 4.0
    assert weight_step(torch.zeros(2, 2), 4.0) == 1.0
    with pytest.raises(BadInput, match="additions"):
        weight_step(weight, 0.0)


@pytest.mark.parametrize(("shift", "tolerance"), [(0.0, 0.15), (3.0, 0.4)])
def test_the_predicted_error_is_near_the_measured_one(shift: float, tolerance: float) -> None:
    """Rounding noise is not quite uniform nor independent of the values: 15 %.

    Where inputs have a mean, each of the 128 rows has one error that all inputs share: its square averages
    to within sqrt(2 / 128) = 12.5 %, and three times that is allowed.
    """
    weight, inputs = normal(128, 192) * 0.05, normal(512, 192, seed=1) + shift
    for trial in choose(weight, inputs, budget_of_bits(6), (4, 6, 8)):
        assert trial.error == pytest.approx(trial.expected_error, rel=tolerance)


def test_the_best_candidate_is_first_and_each_error_is_that_of_its_codes() -> None:
    weight, inputs = normal(32, 64) * 0.1, normal(200, 64, seed=1).relu()
    trials = choose(weight, inputs, budget_of_bits(4))
    assert [t.error for t in trials] == sorted(t.error for t in trials)
    assert {t.candidate.activation_bits for t in trials} == set(range(2, 9))
    for trial in trials:
        top = (1 << trial.candidate.activation_bits) - 1
        step_x = inputs.max().double() / top
        rounded = torch.round(inputs.double() / step_x) * step_x
        codes = torch.round(weight.double() / trial.step)
        error = (rounded @ (codes * trial.step).T - inputs.double() @ weight.double().T).square().mean()
        assert trial.error == pytest.approx(float(error), rel=1e-3)  # its inputs are rounded in float32
        assert trial.largest_code == int(codes.abs().max())
        actual = Candidate(trial.candidate.activation_bits, float(codes.abs().mean()))
        assert trial.power == pytest.approx(power(actual))


def test_a_small_budget_wants_narrow_inputs_and_a_large_one_wide_inputs() -> None:
    weight, inputs = normal(64, 192) * 0.05, normal(300, 192, seed=1)
    small, large = (choose(weight, inputs, budget_of_bits(b))[0].candidate.activation_bits for b in (2, 8))
    assert small < large


def test_spending_more_costs_less_error() -> None:
    weight, inputs = normal(64, 192) * 0.05, normal(300, 192, seed=1)
    errors = [choose(weight, inputs, budget_of_bits(b))[0].error for b in (2, 3, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)


def test_the_prediction_written_out() -> None:
    weight, inputs = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 4.0]])
    assert expected_error(weight, inputs, 0.5, 0.1) == pytest.approx(2 * (10 * 0.25 + 5 * 0.01) / 12)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match=r"\[O, I\]"):
        choose(normal(4, 8), normal(3, 7), 24.0)
