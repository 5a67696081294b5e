import pytest
import torch

from quant.methods.exponent_search import Rounded
from quant.spec import QuantSpec


def test_a_massive_row_counts_like_others():
    """Without its limit the error would be a thousand times larger."""
    generator = torch.Generator().manual_seed(0)
    rows, weight = (torch.randn(n, 16, generator=generator) for n in (101, 8))
    format_ = QuantSpec(bits=4, signed=True, symmetric=True, narrow=True, granularity="per_channel")
    massive = rows.clone()
    massive[0] *= 1000
    plain, with_massive = (Rounded(r, weight, None, format_) for r in (rows, massive))
    assert with_massive.error() == pytest.approx(plain.error(), rel=0.05)
    assert with_massive.power == pytest.approx(plain.power, rel=0.05)
