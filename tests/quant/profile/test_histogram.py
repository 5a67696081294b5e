import numpy as np
import pytest
import torch
from scipy.stats import entropy

from quant.errors import BadInput
from quant.profile.histogram import Histogram, PairHistogram


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def collected(x: torch.Tensor, y: torch.Tensor, order: tuple[slice, ...]) -> Histogram:
    histogram = PairHistogram()
    for part in order:
        histogram.update(x[part], y[part])
    return histogram.result()


def test_counts_equal_numpys_and_do_not_depend_on_the_batches():
    x, y = drawn(3000), drawn(3000, seed=1)
    x[2900] = 77.0  # comes late and widens the bins
    whole = collected(x, y, (slice(None),))
    parts = collected(x, y, (slice(0, 10), slice(10, 2800), slice(2800, None)))
    backwards = collected(x, y, (slice(2800, None), slice(0, 2800)))
    edges = (np.arange(4097) - 2048) * whole.width
    assert whole.width * 2048 == 128  # the smallest power of two above 77
    for found in (whole, parts, backwards):
        assert found.width == whole.width
        assert np.array_equal(found.float_counts, np.histogram(x.numpy(), edges)[0])
        assert np.array_equal(found.quantized_counts, np.histogram(y.numpy(), edges)[0])


def test_zeros_alone_do_not_decide_the_width():
    histogram = PairHistogram()
    histogram.update(torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64))
    histogram.update(drawn(20, scale=1e-3), drawn(20, scale=1e-3))
    found = histogram.result()
    assert found.width < 1e-5
    assert found.float_counts[2048] >= 5
    assert found.float_counts.sum() == 25


def test_the_share_of_outliers_is_that_of_the_values():
    x, y = drawn(20_000), 1.2 * drawn(20_000)
    found = collected(x, y, (slice(None),))
    mean, sigma = float(x.mean()), float(x.std(correction=0))
    exact = float(((x - mean).abs() > 3 * sigma).double().mean())
    # 3σ lies inside a bin of width 2^-8 σ or so, in which less than one of the 20000 values is expected.
    assert found.outside(found.float_counts, mean, 3 * sigma) == pytest.approx(exact, abs=3 / 20_000)
    assert found.outside(found.float_counts, mean, 1e6) == 0
    assert found.outside(found.float_counts, 0.0, 0.0) == pytest.approx(1.0, abs=1e-12)


def test_kl_is_that_of_smoothed_counts_in_bins_of_an_eighth_sigma():
    x, y = drawn(5000), 1.1 * drawn(5000, seed=2)
    x[0] = 1000.0  # the stored bins are 0.5 wide; sigma is 14
    found = collected(x, y, (slice(None),))
    sigma = float(x.std(correction=0))
    width = 2.0 ** np.floor(np.log2(sigma / 8))
    edges = np.arange(-2048, 2049) * width
    a, b = (np.histogram(values.numpy(), edges)[0] for values in (x, y))
    occupied = (a + b) > 0
    assert found.kl(sigma) == pytest.approx(entropy(a[occupied] + 1, b[occupied] + 1), rel=1e-12)


def test_kl_of_equal_values_is_zero_and_grows_with_the_difference():
    x = drawn(5000)
    kls = [collected(x, factor * x, (slice(None),)).kl(1.0) for factor in (1.0, 1.05, 1.5)]
    assert kls[0] == 0
    assert 0 < kls[1] < kls[2]


def test_trimmed_for_a_drawing_keeps_every_count():
    x, y = drawn(1000), drawn(1000, seed=1)
    edges, a, b = collected(x, y, (slice(None),)).trimmed(50)
    assert len(a) <= 50
    assert len(edges) == len(a) + 1 == len(b) + 1
    assert np.array_equal(a, np.histogram(x.numpy(), edges)[0])
    assert np.array_equal(b, np.histogram(y.numpy(), edges)[0])


def test_nan_is_refused_by_name():
    bad = torch.tensor([1.0, torch.nan], dtype=torch.float64)
    with pytest.raises(BadInput, match=r"'blocks\.0' computes NaN"):
        PairHistogram().update(bad, bad, "blocks.0")
