import math

import numpy as np
import pytest
import torch

from quant.profile.moments import PairMoments, decibels, energy, pieces


def seen(x: torch.Tensor, y: torch.Tensor, parts: int) -> PairMoments:
    moments = PairMoments()
    for a, b in zip(x.double().chunk(parts), y.double().chunk(parts), strict=True):
        moments.update(a, b)
    return moments


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, generator=generator) + 0.3
    return x, x + 0.01 * torch.randn(1000, generator=generator)


def test_figures_equal_numpy_over_all_elements_at_once(pair):
    x, y = (t.numpy().astype(np.float64) for t in pair)
    moments = seen(*pair, parts=7)
    # Sums of 1000 float64 terms in another order: relative differences stay below 1e-12.
    assert moments.qsnr_db == pytest.approx(10 * np.log10(np.sum(x**2) / np.sum((y - x) ** 2)), rel=1e-12)
    assert moments.mse == pytest.approx(np.mean((y - x) ** 2), rel=1e-12)
    assert moments.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)
    assert moments.float_spread == pytest.approx((x.mean(), x.std()), rel=1e-12)
    assert moments.quantized_spread == pytest.approx((y.mean(), y.std()), rel=1e-12)


def test_equal_tensors_have_no_noise(pair):
    x, _ = pair
    moments = seen(x, x, parts=2)
    assert moments.qsnr_db == math.inf
    assert moments.mse == 0
    assert moments.cosine == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(("x", "y", "cosine"), [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, -1.0, -1.0)])
def test_cosine_is_defined_for_zeros_too(x, y, cosine):
    assert seen(torch.full((4,), x), torch.full((4,), y), parts=1).cosine == cosine


def test_decibels_at_the_ends():
    assert decibels(100.0, 1.0) == 20.0
    assert decibels(1.0, 0.0) == math.inf
    assert decibels(0.0, 1.0) == -math.inf


def test_pieces_hold_every_element_once_and_in_step():
    x = torch.arange(50_000, dtype=torch.float32).reshape(100, 500).T  # not contiguous
    joined = [torch.cat(parts) for parts in zip(*pieces(x, -x), strict=True)]
    assert torch.equal(joined[0], x.reshape(-1).double())
    assert torch.equal(joined[1], -joined[0])


def test_energy_is_summed_in_float64():
    x = torch.full((40_000,), 3.0e-4)
    assert energy(x) == pytest.approx(40_000 * float(x[0]) ** 2, rel=1e-12)
