import pytest
import torch

from quant.tuning.distance import relative_error, typical_size


def test_every_token_counts_the_same_whatever_its_size():
    generator = torch.Generator().manual_seed(0)
    wanted = torch.randn(2, 5, 32, generator=generator, dtype=torch.float64)
    wanted[:, 3] *= 1000
    found = wanted + 0.1 * torch.randn(2, 5, 32, generator=generator, dtype=torch.float64)
    ratios = [
        ((f - w) ** 2).sum() / ((w - w.mean()) ** 2).sum()
        for f, w in zip(found.reshape(-1, 32), wanted.reshape(-1, 32), strict=True)
    ]
    assert float(relative_error(found, wanted)) == pytest.approx(float(sum(ratios) / 10), rel=1e-9)
    assert 0.5 < typical_size(wanted) < 1.5


def test_a_feature_map_is_one_row():
    wanted = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    wanted[:, :, 0, 0] = 0  # a dead place of a feature map is not worth more than others
    found = wanted + 0.5
    assert float(relative_error(found, wanted)) == pytest.approx(
        0.25 / float(wanted.var(correction=0)), rel=1e-5
    )


def test_a_row_of_zeros_does_not_divide_by_zero():
    wanted = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    wanted[0] = 0
    assert bool(relative_error(wanted + 0.1, wanted).isfinite())
    assert bool(relative_error(torch.ones(2, 3), torch.zeros(2, 3)).isfinite())
