import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics import mcnemar_exact, percentiles, ratio_of_medians, wilson_interval
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


def test_ratio_interval_covers_the_truth_and_repeats() -> None:
    generator = np.random.default_rng(0)
    drift = 1 + 0.5 * np.abs(np.sin(np.arange(300) / 20))  # the machine slows both down together
    slow = 20 * drift * generator.normal(1, 0.02, 300)
    fast = 10 * drift * generator.normal(1, 0.02, 300)
    ratio = ratio_of_medians(slow, fast, seed=5)
    assert ratio == ratio_of_medians(slow, fast, seed=5)
    assert ratio != ratio_of_medians(slow, fast, seed=6)
    assert ratio.low < 2 < ratio.high
    assert ratio.low <= ratio.value <= ratio.high
    # Unpaired, the drift alone would put about ±10 % on the ratio.
    assert ratio.high - ratio.low < 0.15


def test_ratio_interval_matches_scipys_paired_bootstrap() -> None:
    generator = np.random.default_rng(1)
    top, bottom = generator.normal(20, 1, 200), generator.normal(15, 1, 200)
    own = ratio_of_medians(top, bottom, seed=0, resamples=4000)
    other = stats.bootstrap(
        (top, bottom),
        lambda a, b, axis=-1: np.median(a, axis=axis) / np.median(b, axis=axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(9),
    ).confidence_interval
    # Two independent sets of 4000 draws; ends of the interval agree to a tenth of its width.
    width = other.high - other.low
    assert own.low == pytest.approx(other.low, abs=0.1 * width)
    assert own.high == pytest.approx(other.high, abs=0.1 * width)


@pytest.mark.parametrize(("top", "bottom"), [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0])])
def test_ratio_refuses_unpaired_or_impossible_times(top: list[float], bottom: list[float]) -> None:
    with pytest.raises(BadInput):
        ratio_of_medians(top, bottom)
