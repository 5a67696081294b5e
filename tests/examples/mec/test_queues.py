import numpy as np
import pytest

from examples.mec.policies import (
    ActorPolicy,
    AllLocal,
    AllOffload,
    BestOfOne,
    CoordinateDescent,
    Exhaustive,
    Random,
)
from examples.mec.queues import States, advance
from examples.mec.simulation import simulate
from examples.mec.system import Floats, MecSystem
from examples.mec.traces import draw_trace, stack_traces
from quant.errors import BadInput

SYSTEM = MecSystem()


def test_published_channel_constants() -> None:
    gains = [
        0.308353,
        0.216566,
        0.157877,
        0.118615,
        0.091364,
        0.071860,
        0.057535,
        0.046778,
        0.038544,
        0.032135,
    ]
    peaks = [15.638, 14.714, 13.889, 13.143, 12.463, 11.840, 11.264, 10.729, 10.230, 9.764]
    np.testing.assert_allclose(SYSTEM.mean_gains, gains, atol=5e-7)
    np.testing.assert_allclose(SYSTEM.peak_rates(SYSTEM.mean_gains), peaks, atol=5e-4)
    assert SYSTEM.noise == pytest.approx(7.96214e-5, rel=1e-5)


def test_queues_follow_their_equations_by_hand() -> None:
    there = np.array([[True, True]])
    states = States(np.ones((1, 2)), np.array([[4.0, 1.0]]), np.array([[10.0, 30.0]]), there)
    arrivals, rates, energies = np.array([[2.0, 0.5]]), np.array([[3.0, 1.0]]), np.array([[0.1, 0.02]])
    after, lost = advance(SYSTEM, states, arrivals, rates, energies, np.ones((1, 2)), there)
    np.testing.assert_allclose(after.backlog, [[3.0, 0.5]])
    np.testing.assert_allclose(after.debt, [[30.0, 0.0]])  # 10 + 1000·(0.1 − 0.08); 30 − 60 ends at 0
    assert not lost.any()


def test_a_user_that_leaves_takes_its_data_along_and_it_is_counted() -> None:
    states = States(np.ones((1, 2)), np.array([[4.0, 1.0]]), np.array([[10.0, 30.0]]), np.ones((1, 2), bool))
    arrivals, rates, energies = np.array([[2.0, 0.5]]), np.array([[3.0, 1.0]]), np.array([[0.1, 0.02]])
    gone = np.array([[False, True]])
    after, lost = advance(SYSTEM, states, arrivals, rates, energies, np.ones((1, 2)), gone)
    assert (after.backlog[0, 0], after.debt[0, 0], lost[0, 0]) == (0, 0, 3)
    assert after.backlog[0, 1] == 0.5


@pytest.mark.parametrize("changes", [0, 12])
def test_no_data_appears_or_disappears(changes: int) -> None:
    trace = draw_trace(SYSTEM, 3.0, 150, seed=5, changes=changes, fewest=3 if changes else None)
    done = simulate(SYSTEM, trace, BestOfOne(SYSTEM))
    last = done.backlog[0, -1].sum()
    arrived, served = trace.arrivals[:-1].sum(), done.rates[0, :-1].sum()
    assert (done.rates <= done.backlog + 1e-6).all()
    # Rates are rounded to six decimals, 150 slots of 10 users.
    assert arrived == pytest.approx(served + last + done.lost.sum(), abs=1e-3)
    assert (done.lost.sum() > 0) == (changes > 0)


def test_traces_have_the_means_they_are_drawn_with() -> None:
    trace = draw_trace(SYSTEM, 3.0, 20_000, seed=0)
    # 20,000 draws: four standard errors of the mean are 4 / √20000 = 2.8 %.
    np.testing.assert_allclose(trace.gains.mean(axis=0), SYSTEM.mean_gains, rtol=0.03)
    np.testing.assert_allclose(trace.arrivals.mean(axis=0), 3.0, rtol=0.03)
    again = draw_trace(SYSTEM, 3.0, 20_000, seed=0)
    assert np.array_equal(trace.gains, again.gains)
    with pytest.raises(BadInput, match="fewest is 11"):
        draw_trace(SYSTEM, 3.0, 10, seed=0, fewest=11)


def test_simulations_side_by_side_do_not_know_of_each_other() -> None:
    traces = [draw_trace(SYSTEM, 3.0, 40, seed) for seed in (1, 2)]
    both = simulate(SYSTEM, stack_traces(traces), BestOfOne(SYSTEM))
    for row, trace in enumerate(traces):
        alone = simulate(SYSTEM, trace, BestOfOne(SYSTEM))
        np.testing.assert_allclose(both.backlog[row], alone.backlog[0], atol=1e-9)
        assert np.array_equal(both.offload[row], alone.offload[0])


def test_baselines_keep_their_order() -> None:
    trace = draw_trace(SYSTEM, 3.0, 400, seed=1000)
    queue = {
        type(policy).__name__: simulate(SYSTEM, trace, policy).backlog[:, 200:].mean()
        for policy in (
            *(BestOfOne(SYSTEM), CoordinateDescent(SYSTEM)),
            *(AllLocal(SYSTEM), AllOffload(SYSTEM), Random(SYSTEM, seed=0)),
        )
    }
    assert max(queue["BestOfOne"], queue["CoordinateDescent"]) < 40
    assert 40 < queue["Random"] < queue["AllLocal"] < queue["AllOffload"]


def test_coordinate_descent_ends_at_the_optimum_of_most_slots() -> None:
    trace = draw_trace(SYSTEM, 3.0, 40, seed=3)
    states = simulate(SYSTEM, trace, BestOfOne(SYSTEM)).states(slice(10, 40))
    best, found = (policy.decide(states) for policy in (Exhaustive(SYSTEM), CoordinateDescent(SYSTEM)))
    assert (found.objective <= best.objective + 1e-9).all()
    assert (found.objective / best.objective).mean() > 0.99
    assert found.candidates < 100
    wide = MecSystem(users=20)
    trace = draw_trace(wide, 2.0, 2, seed=0)
    with pytest.raises(BadInput, match="up to 16 users"):
        simulate(wide, trace, Exhaustive(wide))


def test_descent_ends_where_a_change_changes_nothing() -> None:
    """To flip an absent user is to repeat the decision, whose value may differ in its last bit."""
    wide = MecSystem(users=12)
    trace = draw_trace(wide, 2.2, 60, seed=1, changes=5, fewest=4)
    states = simulate(wide, trace, BestOfOne(wide)).states(slice(0, None))
    found = CoordinateDescent(wide).decide(states)
    assert not found.offload[~states.active].any()
    assert found.candidates < 100


def test_a_guard_adds_single_users_and_is_never_worth_less() -> None:
    class Blind:
        def logits(self, states: States) -> Floats:
            return np.full(states.gains.shape, -5.0)

    states = simulate(SYSTEM, draw_trace(SYSTEM, 3.0, 40, seed=3), BestOfOne(SYSTEM)).states(slice(20, 40))
    plain, guarded = (ActorPolicy(SYSTEM, Blind(), 2, guard).decide(states) for guard in (False, True))
    single = BestOfOne(SYSTEM).decide(states)
    both = np.maximum(plain.objective, single.objective)
    np.testing.assert_allclose(guarded.objective, both, rtol=1e-9)  # sums of other shapes round otherwise
    assert guarded.objective.mean() > plain.objective.mean()
    assert len(ActorPolicy(SYSTEM, Blind(), 2, guard=True).candidates(states[:1])[0]) == 11  # each once


def test_a_trace_of_other_users_is_refused() -> None:
    with pytest.raises(BadInput, match="of 5 users"):
        simulate(SYSTEM, draw_trace(MecSystem(users=5), 3.0, 5, seed=0), AllLocal(SYSTEM))
    with pytest.raises(BadInput, match="power is -1"):
        MecSystem(power=-1)
