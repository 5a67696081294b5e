import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics import mcnemar_exact, percentiles, ratio_over_processes, wilson_interval
from quant.errors import BadInput


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 344), (344, 344), (251, 344), (5, 9)])
def test_wilson_matches_scipy(successes: int, n: int) -> None:
    own = wilson_interval(successes, n)
    other = stats.binomtest(successes, n).proportion_ci(method="wilson")
    # Same formula in float64: only rounding may differ.
    assert (own.low, own.high) == pytest.approx((other.low, other.high), abs=1e-12)
    assert 0 <= own.low <= successes / n <= own.high <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(BadInput):
        wilson_interval(successes, n)


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (0, 1), (4, 7), (7, 4), (5, 5), (0, 12), (40, 80), (900, 1100)]
)
def test_mcnemar_matches_the_binomial_test(better: int, worse: int) -> None:
    total = better + worse
    expected = stats.binomtest(better, total, 0.5).pvalue if total else 1.0
    assert mcnemar_exact(better, worse) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_survives_counts_beyond_float_range() -> None:
    assert 0 <= mcnemar_exact(3000, 5000) < 1e-50
    assert mcnemar_exact(4000, 4000) == 1.0


def test_percentiles_match_scipy_and_one_sample_is_enough() -> None:
    samples = np.random.default_rng(3).gamma(2, 5, 137)
    own = percentiles(samples.tolist())
    expected = [stats.scoreatpercentile(samples, q) for q in (50, 90, 99)]
    assert [own.median, own.p90, own.p99] == pytest.approx(expected, rel=1e-12)
    single = percentiles([4.0])
    assert single.median == single.p90 == single.p99 == 4.0
    with pytest.raises(BadInput):
        percentiles([])


def measured(seed: int, processes: int = 5, calls: int = 40, ratio: float = 2.0) -> tuple[np.ndarray, ...]:
    """Times of two models whose machine drifts, and whose processes differ by some 2 %."""
    generator = np.random.default_rng(seed)
    drift = generator.uniform(0.7, 1.4, (processes, 1)) * (1 + 0.3 * np.abs(np.sin(np.arange(calls) / 9)))
    own = np.exp(generator.normal(0, 0.02, (2, processes, 1)))
    top, bottom = own * drift * (1 + np.abs(generator.normal(0, 0.03, (2, processes, calls))))
    return ratio * top, bottom


def test_the_interval_is_students_over_the_processes() -> None:
    top, bottom = measured(0)
    own = ratio_over_processes(top, bottom, 0.9)
    logs = np.log(np.percentile(top, 90, axis=1) / np.percentile(bottom, 90, axis=1))
    other = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert own.value == pytest.approx(stats.gmean(np.exp(logs)))
    assert (own.low, own.high) == pytest.approx((np.exp(other.low), np.exp(other.high)))


def test_the_interval_holds_the_truth_where_a_bootstrap_of_calls_does_not() -> None:
    held = calls_held = 0
    for seed in range(300):
        top, bottom = measured(seed)
        ratio = ratio_over_processes(top, bottom)
        held += ratio.low <= 2.0 <= ratio.high
        pairs = np.random.default_rng(seed).integers(0, 200, (200, 200))
        drawn = np.median(top.ravel()[pairs], axis=1) / np.median(bottom.ravel()[pairs], axis=1)
        low, high = np.percentile(drawn, [2.5, 97.5])
        calls_held += low <= 2.0 <= high
    # 95 % of 300 are 285; three standard deviations of that binomial are 11.
    assert held >= 274
    assert calls_held < 240


@pytest.mark.parametrize(
    ("top", "bottom"),
    [([], []), ([[1.0]], [[1.0]]), ([[1.0], [1.0]], [[1.0], [1.0], [1.0]]), ([[1.0], [1.0]], [[0.0], [1.0]])],
)
def test_ratio_refuses_what_has_no_interval(top: list[list[float]], bottom: list[list[float]]) -> None:
    with pytest.raises(BadInput):
        ratio_over_processes(top, bottom)
