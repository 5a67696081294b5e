import numpy as np

from examples.mec.candidates import AdaptiveCount, deduplicate, noisy_logits, order_preserving, single_users
from examples.mec.system import Bools, Floats

ALL = np.ones((1, 4), bool)


def by_definition(p: Floats, count: int) -> list[list[bool]]:
    """The order-preserving rule as it is published, on probabilities."""
    found = [list(p > 0.5)]
    for j in np.argsort(np.abs(p - 0.5))[: count - 1]:
        found.append(list(p > p[j]) if p[j] > 0.5 else list(p >= p[j]))
    return found


def test_candidates_are_those_of_the_published_rule() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        logits = generator.standard_normal((1, 8)) * 2
        p = 1 / (1 + np.exp(-logits[0]))
        found = order_preserving(logits, np.ones((1, 8), bool), 8)
        assert found[0].tolist() == by_definition(p, 8)


def test_ties_go_by_index_and_give_different_candidates() -> None:
    found = order_preserving(np.full((1, 4), -2.0), ALL, 4)[0]
    assert found.tolist() == [
        [False, False, False, False],
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
    ]


def test_large_logits_do_not_saturate() -> None:
    # sigmoid(40) and sigmoid(50) are both 1 in float64.
    found = order_preserving(np.array([[50.0, 40.0, -60.0, -70.0]]), ALL, 2)[0]
    assert found.tolist() == [[True, True, False, False], [True, False, False, False]]


def test_absent_users_never_offload_and_do_not_change_the_others() -> None:
    logits = np.array([[0.3, 5.0, -0.2, -1.0]])
    there = np.array([[True, False, True, True]])
    found = order_preserving(logits, there, 4)
    other = order_preserving(np.array([[0.3, -0.01, -0.2, -1.0]]), there, 4)
    assert np.array_equal(found, other)
    assert not found[..., 1].any()
    small = order_preserving(logits[:, [0, 2, 3]], np.ones((1, 3), bool), 3)
    assert np.array_equal(found[:, :3][..., [0, 2, 3]], small)
    assert np.array_equal(found[:, 3], found[:, 0])  # filled up
    assert not single_users(there)[..., 1].any()


def test_deduplicate_keeps_the_first_of_equals_and_says_which() -> None:
    rows: Bools = np.array([[[True, False], [False, False], [True, False], [True, True]]])
    kept, origin = deduplicate(rows)
    assert origin.tolist() == [0, 1, 3]
    assert np.array_equal(kept, rows[:, [0, 1, 3]])


def test_noise_orders_by_noisy_probability() -> None:
    logits = np.array([[800.0, -800.0, 0.0]])  # exp(800) would overflow
    noise = np.random.default_rng(7).standard_normal((1, 3))
    found = noisy_logits(logits, np.random.default_rng(7))
    np.testing.assert_allclose(found, np.array([[1.0, 0.0, 0.5]]) + noise - 0.5)


def test_the_number_of_candidates_follows_the_winners() -> None:
    adaptive = AdaptiveCount(users=10, interval=4)
    for index in (0, 3, 13, 1):  # 13 is the fourth of the noisy ten
        assert adaptive.count == 10
        adaptive.won(index)
    assert adaptive.count == 5
    for _ in range(4):
        adaptive.won(0)
    assert adaptive.count == 2
    for _ in range(4):
        adaptive.won(1)
    assert adaptive.count == 3
