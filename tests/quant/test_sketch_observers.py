"""Percentile, OMSE and KL against straightforward computations on the raw values."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from quant.kernels import fake_quantize
from quant.observers import make_observer
from quant.observers.cells import Cells
from quant.observers.omse import mean_squared_error
from quant.observers.sketch import Sketch
from quant.qparams import qparams_from_range
from quant.spec import QuantSpec

BIN = 2.0**-8  # relative width of a bin with 8 mantissa bits


def student(*shape: int, seed: int = 0) -> Tensor:
    """Student's t with 3 degrees of freedom: heavy tails."""
    return torch.from_numpy(np.random.default_rng(seed).standard_t(3, shape)).float()


def gelu(*shape: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 1.5
    return torch.nn.functional.gelu(x)


def rectified(*shape: int) -> Tensor:
    return student(*shape).clamp(min=0.0)


Sample = Callable[..., Tensor]
SAMPLES: list[Sample] = [student, gelu, rectified]


def bounds(spec: QuantSpec, x: Tensor) -> tuple[Tensor, Tensor]:
    observer = make_observer(spec)
    observer.update(x)
    return observer.range()


@pytest.mark.parametrize("alpha", [0.9, 0.999, 0.99999, 1.0])
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize(("count", "tolerance"), [(60_000, 1e-6), (300_000, BIN)])
def test_percentile_is_the_quantile(sample: Sample, count: int, tolerance: float, alpha: float) -> None:
    x = sample(count)  # kept exactly up to 65536 values, in bins beyond
    spec = QuantSpec.activation(observer="percentile", observer_options={"alpha": alpha})
    low, high = bounds(spec, x)
    expected = np.quantile(x.double().numpy(), [1 - alpha, alpha])
    np.testing.assert_allclose([low.item(), high.item()], expected, rtol=tolerance, atol=1e-12)


def test_percentile_per_channel_is_the_quantile_of_each_channel() -> None:
    x = student(400, 192, 60) * torch.linspace(0.01, 100, 192)[:, None]
    layout = {"granularity": "per_channel", "axis": 1, "observer": "percentile"}
    spec = QuantSpec.activation(observer_options={"alpha": 0.999}, **layout)
    low, high = bounds(spec, x)
    rows = x.movedim(1, 0).flatten(1).numpy()
    # 192 rows have 7 mantissa bits (4.6 million values are kept in bins).
    np.testing.assert_allclose(high, np.quantile(rows, 0.999, axis=1), rtol=2 * BIN)
    np.testing.assert_allclose(low, np.quantile(rows, 0.001, axis=1), rtol=2 * BIN)


def test_sketch_keeps_extremes_of_float32() -> None:
    x = torch.tensor([[3e38, -3e38, 1e-45, -1e-45, 0.0, -0.0, 2.0**24, 2.0**-40, -(2.0**-41)]]).repeat(
        1, 10_000
    )
    sketch = Sketch(1)
    sketch.add(x, x.min().reshape(1), x.max().reshape(1))
    cells = sketch.cells()
    assert sketch.counts is not None
    assert cells.count.sum() == 90_000
    assert (cells.low.min().item(), cells.high.max().item()) == (x.min().item(), x.max().item())
    assert bool((cells.low <= cells.high).all())
    assert bool((cells.low.diff() >= 0).all())
    assert bool((cells.high.diff() >= 0).all())


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("sample", SAMPLES)
def test_closed_form_error_is_the_measured_error(sample: Sample, bits: int, symmetric: bool) -> None:
    x = sample(400_000)
    spec = QuantSpec(bits=bits, signed=symmetric, symmetric=symmetric)
    sketch = Sketch(1)
    sketch.add(x.unsqueeze(0), x.min().reshape(1), x.max().reshape(1))
    assert sketch.counts is not None
    for factor in (1.0, 0.5, 0.2):
        q = qparams_from_range(x.min() * factor, x.max() * factor, spec)
        measured = (fake_quantize(x, q) - x).double().square().mean().item()
        # The density is even within a bin to first order; 1 % covers second order and the sample's noise.
        assert mean_squared_error(sketch.cells(), q).item() == pytest.approx(measured, rel=0.01)


def test_closed_form_error_against_fine_integration() -> None:
    cells = Cells(
        *(torch.tensor([v], dtype=torch.float64) for v in ([-3.0, 0.1, 0.7], [-2.0, 0.3, 5.0], [3, 1, 4]))
    )
    q = qparams_from_range(torch.tensor(-1.0), torch.tensor(2.0), QuantSpec.activation(3))
    steps = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    total = 0.0
    for low, high, count in zip(cells.low[0], cells.high[0], cells.count[0], strict=True):
        x = (low + (high - low) * steps).float()
        total += count.item() * (fake_quantize(x, q) - x).double().square().mean().item()
    assert mean_squared_error(cells, q).item() == pytest.approx(total / 8, rel=1e-5)  # float32 values


def brute_force(x: Tensor, spec: QuantSpec) -> float:
    """Least measured error over the same candidates."""
    candidates = [
        qparams_from_range(x.min() * f, x.max() * f, spec) for f in (1 - 0.01 * i for i in range(90))
    ]
    return min((fake_quantize(x, q) - x).double().square().mean().item() for q in candidates)


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("sample", SAMPLES)
def test_omse_of_activations_is_as_good_as_brute_force(sample: Sample, bits: int) -> None:
    x = sample(200_000)
    spec = QuantSpec.activation(bits, observer="omse")
    q = qparams_from_range(*bounds(spec, x), spec)
    error = (fake_quantize(x, q) - x).double().square().mean().item()
    assert error <= 1.01 * brute_force(x, spec)
    assert error <= (fake_quantize(x, qparams_from_range(x.min(), x.max(), spec)) - x).square().mean().item()


@pytest.mark.parametrize("bits", [4, 8])
def test_omse_of_weight_rows_is_as_good_as_brute_force(bits: int) -> None:
    w = student(16, 192) * torch.linspace(0.001, 1, 16)[:, None]
    spec = QuantSpec.weight(bits, observer="omse")
    q = qparams_from_range(*bounds(spec, w), spec)
    errors = (fake_quantize(w, q) - w).double().square().mean(dim=1)
    one = QuantSpec.weight(bits, granularity="per_tensor")
    for row, error in zip(w, errors, strict=True):
        # Both score the same values; float32 against float64 may decide between equals only.
        assert error.item() <= brute_force(row, one) * 1.0001


def test_omse_serves_the_format_asked_for() -> None:
    observer = make_observer(QuantSpec.activation(8, observer="omse"))
    observer.update(student(100_000))
    eight, three = (observer.range(QuantSpec.activation(bits))[1].item() for bits in (8, 3))
    assert three < 0.7 * eight


def naive_kl(x: NDArray[np.float64], low: float, high: float, levels: int, bins: int = 2048) -> float:
    """The threshold of least divergence, bin by bin as the talk writes it; low is 0 for values |x|."""
    amax = max(-low, high)
    width = amax / bins
    histogram, _ = np.histogram(x, bins=2 * bins, range=(-amax, amax))
    histogram = histogram.astype(np.float64)
    histogram[bins] = histogram[bins + 1]
    histogram[bins - 1] = histogram[bins - 2]
    occupied = np.nonzero(histogram)[0]
    best, threshold = np.inf, amax
    for i in range(1, bins + 1):
        left, right = max(bins - i, min(bins, occupied[0])), min(bins + i, occupied[-1] + 1)
        if right - left < levels:
            continue
        inside = histogram[left:right]
        p = inside.copy()
        p[0] += histogram[:left].sum()
        p[-1] += histogram[right:].sum()
        level = np.arange(len(inside)) * levels // len(inside)
        sums = np.bincount(level, weights=inside, minlength=levels)
        filled = np.bincount(level, weights=inside > 0, minlength=levels)
        q = np.where(inside > 0, (sums / np.maximum(filled, 1))[level], 0.0)
        if np.any((p > 0) & (q == 0)):
            continue
        p, q = p / p.sum(), q / q.sum()
        divergence = float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))
        if divergence <= best + 1e-12:
            best, threshold = divergence, i * width
    return threshold


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_kl_on_exact_values_is_the_naive_search(sample: Sample, symmetric: bool) -> None:
    x = sample(60_000)
    spec = QuantSpec(signed=symmetric, symmetric=symmetric, observer="kl")
    low, high = bounds(spec, x)
    values = x.double().numpy()
    if symmetric:
        expected = naive_kl(np.abs(values), 0.0, np.abs(values).max(), 128)
        assert max(-low.item(), high.item()) == pytest.approx(expected, rel=1e-9)
    else:
        expected = naive_kl(values, values.min(), values.max(), 256)
        assert high.item() == pytest.approx(min(expected, values.max()), rel=1e-9)
        assert low.item() == pytest.approx(max(-expected, min(values.min(), 0.0)), rel=1e-9)


def test_kl_from_bins_is_close_to_the_naive_search() -> None:
    x = student(400_000)
    low, high = bounds(QuantSpec(signed=True, symmetric=True, observer="kl"), x)
    values = np.abs(x.double().numpy())
    expected = naive_kl(values, 0.0, values.max(), 128)
    # The divergence is flat around its minimum, and the counts were spread within bins of 0.4 %.
    assert max(-low.item(), high.item()) == pytest.approx(expected, rel=0.15)


def test_kl_cuts_a_heavy_tail_and_keeps_a_flat_distribution() -> None:
    spec = QuantSpec(signed=True, symmetric=True, observer="kl")
    heavy = student(400_000)
    assert bounds(spec, heavy)[1].item() < 0.5 * heavy.abs().max().item()
    flat = torch.linspace(-1, 1, 400_000)
    assert bounds(spec, flat)[1].item() > 0.95


@pytest.mark.parametrize("observer", ["kl", "omse", "percentile"])
def test_a_constant_or_dead_channel_is_served(observer: str) -> None:
    x = torch.stack([torch.zeros(100), torch.full((100,), 2.0), torch.full((100,), -3.0)])
    spec = QuantSpec.weight(observer=observer)
    q = qparams_from_range(*bounds(spec, x), spec)
    torch.testing.assert_close(fake_quantize(x, q), x, rtol=0.01, atol=0.0)
