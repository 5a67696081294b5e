"""Solvers in the same budget, on tables written by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.analyses.contest import Contender, Entry, compete
from quant.errors import BadInput
from quant.mixed.constraint import Constraint
from quant.mixed.sensitivity import Sensitivity

RULE, PROGRAM = Contender(name="rule", metric="kl", solver="thresholds"), Contender(name="milp", metric="kl")
LOSS = [[10.0, 0.0], [9.0, 0.0], [8.0, 0.0]]


def table(values: list[list[float]]) -> Sensitivity:
    names = tuple(f"layer{i}" for i in range(len(values)))
    return Sensitivity("kl", 1, names, (4, 8), tuple(map(tuple, values)))


def no_measurement(choice: NDArray[np.intp]) -> float:
    raise AssertionError(f"{choice} was measured, but nobody swaps")


def enter(extra: list[float], limit: float, *contenders: Contender) -> dict[str, Entry]:
    """Each layer costs nothing at 4 bits and ``extra`` at 8."""
    budget = Constraint("size", " MB", np.array([[0.0, cost] for cost in extra]), limit)
    entries = compete(contenders or (RULE, PROGRAM), {"kl": table(LOSS)}, [[budget]], no_measurement)
    return {entry.contender: entry for entry in entries}


def test_the_integer_program_beats_thresholds_where_the_most_sensitive_layer_is_dear() -> None:
    """The rule has to raise the most sensitive layer first, and has nothing left then."""
    found = enter([110, 60, 50], 110)
    assert list(found["rule"].choice) == [1, 0, 0]  # 9 + 8 are lost
    assert list(found["milp"].choice) == [0, 1, 1]  # 10 is lost


def test_both_agree_where_layers_cost_the_same() -> None:
    for limit in (0, 60, 120, 180):
        found = enter([60, 60, 60], limit)
        assert (
            list(found["rule"].choice) == list(found["milp"].choice) == [limit >= 60 * n for n in (1, 2, 3)]
        )


def test_the_others_have_only_what_the_first_one_spent() -> None:
    found = enter([110, 60, 50], 115)
    assert (found["rule"].limits[0].limit, found["milp"].limits[0].limit) == (115, 110)
    alone = enter([110, 60, 60], 119)
    # 119 leave 9 that the rule cannot use; with them nothing else could be raised beside the first layer.
    assert list(alone["milp"].choice) == list(alone["rule"].choice)
    (entry,) = enter([110, 60, 50], 115, PROGRAM).values()
    assert entry.limits[0].limit == 115


def test_swaps_follow_what_is_measured() -> None:
    """The network as a whole loses nothing but through its second layer, which no table knows."""
    budget = Constraint("size", " MB", np.array([[0.0, 60.0]] * 3), 60)
    swapping = Contender(name="swaps", metric="kl", swaps=10)
    tables = {"kl": table(LOSS)}
    plain, searched = compete((PROGRAM, swapping), tables, [[budget]], lambda choice: float(choice[1] == 0))
    assert list(plain.choice) == [1, 0, 0]
    assert list(searched.choice) == [0, 1, 0]


def test_a_budget_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(BadInput, match="size -1 MB cannot be met"):
        enter([60, 60, 60], -1)
