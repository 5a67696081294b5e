"""Which model the search ends with."""

import copy
from typing import Any

import numpy as np
import pytest

from benchmarks.placement.judge import Found, judge
from benchmarks.placement.plans import Plan
from benchmarks.results import Summary

Document = dict[str, Any]
ROUNDS = np.abs(np.random.default_rng(0).normal(1, 0.01, (5, 60)))
START = "int8-ort-x86"


def add(document: Document, name: str, ms: float, correct: int, row: int, sqnr: float) -> None:
    new = copy.deepcopy(document["variants"][1])
    times = ms * ROUNDS[row]
    new |= {"name": name}
    new["latency"] = [
        new["latency"][0] | {"samples_ms": times.tolist(), "median_ms": float(np.median(times))}
    ]
    new["accuracy"] |= {"correct": correct, "top1": correct / 344, "sqnr_db": sqnr}
    document["variants"].append(new)


@pytest.fixture
def run(summary_dict: Document) -> Document:
    """A start at 20 ms that loses one image of the float model's 254."""
    summary_dict["variants"] = summary_dict["variants"][:2]
    summary_dict["variants"][0]["accuracy"] |= {"correct": 254, "top1": 254 / 344}
    add(summary_dict, START, 20.0, 253, 0, 20.0)
    del summary_dict["variants"][1]
    quiet = {"value": 1.0, "low": 0.99, "high": 1.01}
    summary_dict["noise"] = [{"batch": 1, "threads": 2, "ratio": quiet}]
    return summary_dict


def judged(document: Document, max_drop: float = 1.0) -> Found:
    names = [v["name"] for v in document["variants"][2:]]
    plans = {name: Plan(1.0, ("head",), 1.0, 0.1) for name in names}
    return judge(Summary.model_validate(document), START, plans, max_drop)


def test_the_fastest_that_is_faster_beyond_chance(run: Document) -> None:
    add(run, "quick", 18.0, 253, 1, 20.0)
    add(run, "quicker", 16.0, 252, 2, 19.0)
    found = judged(run)
    assert found.name == "quicker"
    assert found.judged[2].speedup is not None
    assert found.judged[2].speedup.value == pytest.approx(1.25, rel=0.02)
    assert found.judged[0].speedup is None


def test_nothing_slower_takes_the_place_of_the_start(run: Document) -> None:
    add(run, "nearer but slower", 20.5, 254, 1, 30.0)
    found = judged(run)
    assert found.name == START
    assert "nothing that was tried is better" in found.text
    assert not found.judged[1].accepted


def test_as_fast_and_nearer_to_float_is_better(run: Document) -> None:
    add(run, "nearer", 19.95, 254, 1, 26.0)
    add(run, "not nearer", 19.9, 254, 2, 20.0)
    found = judged(run)
    assert found.name == "nearer"
    assert "+6.0 dB nearer" in found.text
    assert not found.judged[2].accepted


def test_what_loses_too_much_is_out(run: Document) -> None:
    add(run, "quick", 15.0, 246, 1, 12.0)
    assert judged(run).name == START
    assert "loses 2.33 points of top-1, more than 1" in judged(run).judged[1].text
    assert judged(run, max_drop=3.0).name == "quick"


def test_a_start_over_the_budget_is_said(run: Document) -> None:
    add(run, "slow", 30.0, 254, 1, 30.0)
    assert "it loses 0.29 points itself, more than 0.1" in judged(run, max_drop=0.1).text


def test_on_a_noisy_machine_the_start_stays(run: Document) -> None:
    run["noise"][0]["ratio"] = {"value": 1.1, "low": 0.9, "high": 1.3}
    add(run, "quick", 15.0, 253, 1, 20.0)
    found = judged(run)
    assert found.name == START
    assert "too noisy to tell" in found.judged[1].text
