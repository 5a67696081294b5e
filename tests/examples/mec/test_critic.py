"""The critic against golden values, the published algorithm, and programs that know no prices."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from examples.mec.airtime import efficiency, find_links
from examples.mec.critic import allocate
from examples.mec.golden import BEST, OBJECTIVES, WITHOUT_DEBT, golden_states
from examples.mec.policies import Exhaustive
from examples.mec.queues import States
from examples.mec.system import Bools, Floats, MecSystem
from examples.mec.traces import draw_trace
from tests.examples.mec.reference import published_critic

SYSTEM = MecSystem()
USERS = np.arange(SYSTEM.users)
GOLDEN = golden_states(SYSTEM)


def decision(*users: int) -> Bools:
    return np.isin(USERS, users)[None, None]


def random_states(count: int, seed: int) -> States:
    """Half of them with long queues, a quarter each with very short ones and without energy spent."""
    generator = np.random.default_rng(seed)
    backlog = generator.exponential(25, (count, 10))
    debt = generator.exponential(70, (count, 10)) * (generator.random((count, 10)) < 0.8)
    backlog[: count // 4] *= 0.1
    debt[count // 4 : count // 2] = 0
    return States(draw_trace(SYSTEM, 3.0, count, seed).gains, backlog, debt, np.ones((count, 10), bool))


@pytest.mark.parametrize(("users", "objective"), OBJECTIVES.items())
def test_values_of_the_published_code(users: tuple[int, ...], objective: float) -> None:
    found = allocate(SYSTEM, GOLDEN, decision(*users)).objective[0, 0]
    assert found == pytest.approx(objective, rel=1e-6)  # printed with six decimals, rates rounded to six


def test_value_where_energy_costs_nothing() -> None:
    free = replace(GOLDEN, debt=np.zeros((1, 10)))
    users, objective = WITHOUT_DEBT
    assert allocate(SYSTEM, free, decision(*users)).objective[0, 0] == pytest.approx(objective, rel=1e-6)


def test_rates_and_energies_of_the_published_code() -> None:
    chosen = np.array([0])
    rates, energies = allocate(SYSTEM, GOLDEN, decision()).of(chosen)
    wanted = [3, 2.236068, 2.236068, 1.825742, 1.914854, 1.666667, 1.759329, 1.581139, 1.666667, 1.527525]
    np.testing.assert_allclose(rates[0], wanted, atol=1e-6)
    np.testing.assert_allclose(energies[0, :3], [0.27, 0.111803, 0.111803], atol=1e-6)
    rates, energies = allocate(SYSTEM, GOLDEN, decision(0, 4)).of(chosen)
    assert (rates[0, 0], rates[0, 4], energies[0, 4]) == (0, pytest.approx(12.463349), pytest.approx(0.1))
    rates, energies = allocate(SYSTEM, GOLDEN, decision(0)).of(chosen)
    assert (rates[0, 0], energies[0, 0]) == (5, pytest.approx(0.002410, abs=1e-6))
    rates, _ = allocate(SYSTEM, GOLDEN, decision(*range(10))).of(chosen)
    assert np.flatnonzero(rates[0]).tolist() == [8]
    assert rates[0, 8] == pytest.approx(10.230381, abs=2e-6)


def test_exhaustive_search_finds_the_published_optimum() -> None:
    best = Exhaustive(SYSTEM).decide(GOLDEN)
    assert tuple(np.flatnonzero(best.offload[0])) == BEST[0]
    assert best.objective[0] == pytest.approx(BEST[1], rel=1e-6)
    assert best.candidates == 1024


def test_equals_the_published_algorithm_on_random_states() -> None:
    states = random_states(60, seed=1)
    generator = np.random.default_rng(2)
    offload = generator.random((60, 3, 10)) < generator.random((60, 3, 1))
    together = allocate(SYSTEM, states, offload)
    for row, column in np.ndindex(60, 3):
        state = (states.gains[row], states.backlog[row], states.debt[row])
        objective, rates, energies = published_critic(SYSTEM, *state, offload[row, column])
        # Rates are rounded to six decimals there, and weigh up to some 100 each.
        assert together.objective[row, column] == pytest.approx(objective, rel=1e-6)
        np.testing.assert_allclose(together.rates[row, column], rates, atol=2e-5)
        np.testing.assert_allclose(together.energies[row, column], energies, atol=2e-5)


def test_states_and_decisions_do_not_disturb_each_other() -> None:
    states = random_states(20, seed=3)
    offload = np.random.default_rng(4).random((20, 7, 10)) < 0.3
    together = allocate(SYSTEM, states, offload).objective
    alone = [
        [allocate(SYSTEM, states[i : i + 1], offload[i : i + 1, [j]]).objective.item() for j in range(7)]
        for i in range(20)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_no_allocation_that_a_solver_finds_is_worth_more() -> None:
    """SLSQP on airtimes and energies of three offloaders, which knows neither prices nor knapsacks."""
    states, users = random_states(12, seed=5), [0, 3, 7]
    for row in range(3, 12):
        link = find_links(SYSTEM, states[row : row + 1])
        worth, joule = link.worth[0, users], 10 * states.debt[row, users]
        strength, backlog = link.strength[0, users], states.backlog[row, users]

        def rates(x: Floats, strength: Floats = strength) -> Floats:
            airtime = np.maximum(x[:3], 1e-9)
            return np.asarray(SYSTEM.nat_rate * airtime * np.log1p(x[3:] * strength / airtime))

        def loss(x: Floats, worth: Floats = worth, joule: Floats = joule) -> float:
            return float(-(worth @ rates(x) - joule @ x[3:]))

        constraints = [
            {"type": "ineq", "fun": lambda x: 1 - x[:3].sum()},
            {"type": "ineq", "fun": lambda x: SYSTEM.power * x[:3] - x[3:]},
            {"type": "ineq", "fun": lambda x, most=backlog, of=rates: most - of(x)},
        ]
        start = np.array([0.2] * 3 + [0.01] * 3)
        bounds = [(0, 1)] * 3 + [(0, 0.1)] * 3
        solved = minimize(loss, start, bounds=bounds, constraints=constraints)
        offload = np.isin(USERS, users)[None, None]
        found = allocate(SYSTEM, states[row : row + 1], offload)
        own = worth @ found.rates[0, 0, users] - joule @ found.energies[0, 0, users]
        # The price is on a grid 0.6 wide, which loses up to a few thousandths; SLSQP may end below.
        assert own >= -solved.fun * (1 - 5e-3) - 1e-3


def test_spectral_efficiency_solves_its_equation() -> None:
    z = np.logspace(-3, 4, 500)
    u = efficiency(z, np.ones(500), np.full(500, 1e9), np.full(500, 50.0))
    np.testing.assert_allclose((u - 1) * np.exp(u) + 1, z, rtol=1e-8)


def test_overload_needs_a_price_limit_of_its_own() -> None:
    states = random_states(20, seed=6)
    long = replace(states, backlog=np.full((20, 10), 2000.0), debt=np.full((20, 10), 5000.0))
    offload = np.broadcast_to(np.isin(USERS, [0, 5]), (20, 1, 10))
    fixed = allocate(SYSTEM, long, offload).objective
    own = allocate(replace(SYSTEM, price_limit=None), long, offload).objective
    assert (own >= fixed * (1 - 1e-3)).all()
    assert own.mean() > fixed.mean()
