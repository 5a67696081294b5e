"""Distances of logits."""

import numpy as np
import pytest

from benchmarks.arm64.compare import apart, relative


def test_a_distance_is_relative_to_the_largest_magnitude_of_the_reference() -> None:
    reference = np.array([[1.0, -4.0], [2.0, 0.5]], dtype=np.float32)
    values = reference + np.array([[0.0, 0.25], [0.0, 0.0]], dtype=np.float32)
    assert relative(values, reference) == 0.25 / 4
    assert relative(reference, values) == 0.25 / 3.75
    assert relative(reference, reference) == 0
    assert relative(np.zeros(2), np.zeros(2)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_infinitely_far(bad: float) -> None:
    assert relative(np.array([bad, 1.0]), np.array([1.0, 1.0])) == np.inf
    assert relative(np.array([1.0, 1.0]), np.array([bad, 1.0])) == np.inf


def test_the_worst_image_and_the_same_answers_are_told() -> None:
    reference = np.array([[0.0, 1.0], [1.0, 0.0], [3.0, 2.9]])
    found = apart(np.array([[0.0, 1.1], [1.0, 0.0], [2.8, 2.9]]), reference)
    assert (found.worst, found.same_top1, found.images) == (2, 2, 3)
    assert found.relative == pytest.approx(0.2 / 3)
