"""Models of two runs timed side by side."""

import copy
from typing import Any

import numpy as np
import pytest

from benchmarks.compare.changes import changes
from benchmarks.compare.conditions import parse_condition
from benchmarks.compare.verdicts import check_all
from benchmarks.results import Summary

Document = dict[str, Any]
CONDITION = "latency_p50 > +5%"


def both(document: Document, seed: int, slower: float = 1.0) -> tuple[Summary, Summary]:
    """Ten processes each, in turns; what slows integers in an hour hits INT8 of both runs, not FP32."""
    generator = np.random.default_rng(seed)
    hour = np.exp(generator.normal(0, 0.05, 10)) * generator.uniform(1, 1.2)
    found = []
    for factor in (1.0, slower):
        own = copy.deepcopy(document)
        own["noise"] = []
        for variant, middle, felt in zip(
            own["variants"][:2], (20.0, 14.0 * factor), (np.ones(10), hour), strict=True
        ):
            process = felt * np.exp(generator.normal(0, 0.02, 10))
            samples = middle * np.repeat(process, 10) * (1 + np.abs(generator.normal(0, 0.04, 100)))
            (entry,) = variant["latency"] = variant["latency"][:1]
            entry |= {"processes": 10, "samples_ms": samples.tolist(), "median_ms": float(np.median(samples))}
        found.append(Summary.model_validate(own))
    return found[0], found[1]


def failed(base: Summary, new: Summary) -> bool:
    found = changes(base, new, together=True)
    checks = check_all(base, new, found, [parse_condition(CONDITION)])
    return any(check.failed for check in checks)


@pytest.mark.parametrize("seed", range(20))
def test_no_change_passes_and_ten_percent_are_found(summary_dict: Document, seed: int) -> None:
    assert not failed(*both(summary_dict, seed))
    assert failed(*both(summary_dict, seed, slower=1.1))


def test_the_change_is_that_of_the_variant_by_pairs_of_processes(summary_dict: Document) -> None:
    base, new = both(summary_dict, 1, slower=1.2)
    (change,) = [
        c
        for c in changes(base, new, together=True)
        if c.variant == "int8-ort-x86" and c.metric.name == "latency_p50"
    ]
    then, now = (np.median(s.variants[1].latency[0].by_process, axis=1) for s in (base, new))
    assert change.relative == pytest.approx(np.expm1(np.log(now / then).mean()))
    assert change.interval.low < 0.2 < change.interval.high
