"""The integer LayerNorm against the same formulas in Python's own integers, one value at a time."""

import math

import pytest
import torch
from torch import Tensor

from quant.errors import BadInput
from quant.integer.layer_norm import integer_layer_norm, layer_norm_constants

S_OUT = 0.031


def reference(
    codes: list[int],
    alpha: list[int],
    gamma: list[float],
    beta: list[float],
    s1: float,
    s_out: float,
    eps: float,
) -> list[int]:
    """One row. Floats are Python's, which are IEEE doubles; everything else is unbounded integers."""
    channels = len(codes)
    x = [q << a for q, a in zip(codes, alpha, strict=True)]
    total = sum(x)
    spread = channels * sum(v * v for v in x) - total**2 + max(round(eps * channels**2 / s1**2), 1)
    root = math.sqrt(spread)
    result = []
    for value, g, b in zip(x, gamma, beta, strict=True):
        gain = g / s_out * channels / root
        exponent = math.frexp(abs(gain))[1] - 1 if gain else -1000  # floor(log2 |A|)
        n = min(max(7 - exponent, 0), 31)
        m = min(math.floor(abs(gain) * 2**n), 255)
        offset = round((b / s_out - total / root * (g / s_out)) * 2**n)
        sign = (gain > 0) - (gain < 0)
        half = 1 << (n - 1) if n else 0
        result.append((sign * m * value + offset + half) >> n)
    return result


def random_case(seed: int, rows: int = 20, channels: int = 24) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-128, 128, (rows, channels), generator=generator)
    alpha = torch.randint(0, 9, (channels,), generator=generator)
    alpha[0] = 0
    gamma = torch.randn(channels, generator=generator)
    beta = torch.randn(channels, generator=generator)
    return codes, alpha, gamma, beta


def both(
    codes: Tensor, alpha: Tensor, gamma: Tensor, beta: Tensor, s1: float = 0.0075, eps: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    """Ours, the reference's, and the float LayerNorm in units of the output's scale."""
    step, s_out = torch.tensor(s1), torch.tensor(S_OUT)
    scale = torch.ldexp(step.expand(alpha.shape), alpha)
    x = codes * scale
    ours = integer_layer_norm(x, layer_norm_constants(scale, gamma, beta, eps, s_out))
    rows = [
        reference(row, alpha.tolist(), gamma.tolist(), beta.tolist(), step.item(), s_out.item(), eps)
        for row in codes.reshape(-1, codes.shape[-1]).tolist()
    ]
    exact = torch.nn.functional.layer_norm(x.double(), x.shape[-1:], gamma.double(), beta.double(), eps)
    return ours, torch.tensor(rows).reshape(codes.shape), exact / S_OUT


@pytest.mark.parametrize("seed", range(5))
def test_same_integers_as_the_plain_reference(seed: int) -> None:
    ours, expected, _ = both(*random_case(seed))
    assert torch.equal(ours, expected)


def test_leading_axes_are_kept() -> None:
    codes, *rest = random_case(9, rows=12)
    ours, expected, _ = both(codes.reshape(2, 3, 2, -1), *rest)
    assert torch.equal(ours, expected)


def edge_cases() -> dict[str, tuple[Tensor, Tensor, Tensor, Tensor]]:
    codes, alpha, gamma, beta = random_case(7)
    signs = torch.where(torch.arange(24) % 2 == 0, 1.0, -1.0)
    outlier = codes.clone()
    outlier[:, 3] = 127
    high = alpha.clone()
    high[3] = 12
    return {
        "constant rows": (torch.full_like(codes, 55), torch.zeros_like(alpha), gamma, beta),
        "zero rows": (torch.zeros_like(codes), alpha, gamma, beta),
        "nearly constant rows": (55 + (codes > 100).long(), torch.zeros_like(alpha), gamma, beta),
        "negative gamma": (codes, alpha, -gamma.abs(), beta),
        "zero gamma": (codes, alpha, torch.zeros_like(gamma), beta),
        "tiny and huge gamma": (codes, alpha, 10.0 ** torch.linspace(-12, 4, 24) * signs, beta),
        "powers of two": (codes, alpha, torch.ldexp(signs, torch.arange(24) - 12), beta),
        "a massive channel": (outlier, high, gamma, beta),
    }


@pytest.mark.parametrize("case", edge_cases())
def test_same_integers_at_the_edges(case: str) -> None:
    ours, expected, _ = both(*edge_cases()[case])
    assert torch.equal(ours, expected)


def test_a_gain_of_exactly_a_power_of_two() -> None:
    """floor(log2 A) must not depend on how a logarithm rounds: here every A is a power of two."""
    codes = torch.tensor(
        [[3, -3, 3, -3]]
    )  # C ΣX² − S² = 144, R = 12 with E = 0 (1 here, so eps makes R² = 256)
    gamma = torch.tensor([2.0**-3, 2.0**-1, 2.0, 2.0**5])
    eps = (256 - 144) / 16
    scale, s_out = torch.tensor(1.0), torch.tensor(0.25)
    ours = integer_layer_norm(codes.float(), layer_norm_constants(scale, gamma, gamma, eps, s_out))
    expected = reference(codes[0].tolist(), [0] * 4, gamma.tolist(), gamma.tolist(), 1.0, 0.25, eps)
    assert ours.tolist() == [expected]
    # A = 4 γ / (16 s_out) = γ; exact arithmetic: γ X + γ / s_out = γ (X + 4), rounded half up
    assert expected == [
        math.floor(g * (x + 4) + 0.5) for g, x in zip(gamma.tolist(), codes[0].tolist(), strict=True)
    ]


def test_rows_of_zeros_give_beta() -> None:
    """Rounded to N bits and then to a whole number: off by 1/4 + 1/2 at most (N = 0 is rounded once)."""
    ours, _, _ = both(*edge_cases()["zero rows"])
    beta = edge_cases()["zero rows"][3]
    assert float((ours - beta / S_OUT).abs().max()) <= 0.76


def test_close_to_the_float_layer_norm() -> None:
    """M has 8 bits and is cut off, so A is up to 2^-7 too small, and so is its share of the result."""
    codes, alpha, gamma, beta = random_case(3)
    ours, _, exact = both(codes, alpha, gamma, beta)
    x = torch.ldexp(codes.double(), alpha) * 0.0075
    share = (x / x.std(-1, keepdim=True, correction=0) * gamma / S_OUT).abs()
    assert bool(((ours - exact).abs() <= share * 2.0**-7 + 0.51).all())


def test_more_multiplier_bits_come_closer() -> None:
    codes, alpha, gamma, beta = random_case(4)
    scale = torch.ldexp(torch.full(alpha.shape, 0.0075), alpha)
    x, errors = codes * scale, []
    exact = torch.nn.functional.layer_norm(x.double(), x.shape[-1:], gamma.double(), beta.double(), 1e-6)
    for bits in (8, 16):
        constants = layer_norm_constants(scale, gamma, beta, 1e-6, torch.tensor(S_OUT), bits)
        errors.append(float((integer_layer_norm(x, constants) - exact / S_OUT).abs().max()))
    assert errors[1] <= 0.51 < errors[0]


def test_other_ratios_than_powers_of_two_are_refused() -> None:
    one = torch.ones(2)
    with pytest.raises(BadInput, match=r"'norm'.*powers of two"):
        layer_norm_constants(torch.tensor([0.1, 0.3]), one, one, 1e-6, torch.tensor(0.1), name="norm")
