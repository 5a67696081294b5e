"""Log-Int-Softmax against the same formulas in Python's own integers, one value at a time."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from quant.errors import BadInput
from quant.integer.softmax import log_int_softmax, powers_of_two, shift_matmul, softmax_constants


def reference(codes: list[int], scale: float) -> list[int | None]:
    """k of one row, None where the exponential is 0; unbounded integers, n = 30 always."""
    x0 = math.floor(-0.6931 / scale)
    b = math.floor(0.96963238 / 0.35815147 / scale)
    c = math.floor(1 / 0.35815147 / scale**2)
    exponentials = []
    for code in codes:
        x = max(code - max(codes), 30 * x0)
        q, r = 0, x
        while r <= x0:
            q, r = q + 1, r - x0
        exponentials.append(max(0, (r + b) * r + c) << (30 - q))
    result: list[int | None] = []
    for e in exponentials:
        if e == 0:
            result.append(None)
            continue
        u = (2 * sum(exponentials) + e) // (2 * e)  # rounded to the nearest
        k = u.bit_length() - 1
        result.append(k + 1 if Fraction(u - 2**k) >= Fraction(2**k, 2) else k)
    return result


def product(codes: list[int | None], values: list[list[int]], bits: int) -> list[Fraction]:
    """Σ V >> k by shifts of integers, in units of 2^-64."""
    kept = [(k, row) for k, row in zip(codes, values, strict=True) if k is not None and k < 2**bits]
    return [Fraction(sum(row[d] << (64 - k) for k, row in kept), 2**64) for d in range(len(values[0]))]


def random_codes(seed: int, rows: int = 12, keys: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, (rows, keys), generator=generator)


def edge_cases() -> dict[str, Tensor]:
    dominant = torch.full((3, 40), -128)
    dominant[:, 7] = 127
    two = dominant.clone()
    two[:, 30] = 127
    near = torch.full((3, 40), 127)
    near[:, ::3] = 126
    return {
        "one dominant score": dominant,
        "two dominant scores": two,
        "all equal": torch.full((3, 40), -7),
        "nearly all equal": near,
        "one key": torch.tensor([[5], [-5]]),
        "two keys": torch.tensor([[5, 5], [-5, 127], [0, 1]]),
        "a ramp": torch.arange(-128, 128).reshape(1, -1),
    }


def ours_of(codes: Tensor, scale: float, bits: int) -> Tensor:
    step = torch.tensor(scale)
    return log_int_softmax(codes * step, softmax_constants(step.item(), bits))


def check(codes: Tensor, scale: float, bits: int) -> None:
    step = torch.tensor(scale).item()
    ours = ours_of(codes, scale, bits)
    values = torch.randint(-255, 256, (codes.shape[-1], 3), generator=torch.Generator().manual_seed(1))
    expected = [reference(row, step) for row in codes.tolist()]
    assert [[k if k <= 62 else None for k in row] for row in ours.tolist()] == expected
    got = shift_matmul(powers_of_two(ours, bits), values)
    sums = [product(row, values.tolist(), bits) for row in expected]
    assert [[Fraction(v) for v in row] for row in got.tolist()] == sums


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scale", [0.003, 0.0437, 0.11, 0.33, 0.69])
def test_same_integers_as_the_plain_reference(scale: float, bits: int) -> None:
    check(random_codes(int(scale * 1000)), scale, bits)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("case", edge_cases())
def test_same_integers_at_the_edges(case: str, bits: int) -> None:
    check(edge_cases()[case], 0.0815, bits)


@pytest.mark.parametrize("scale", [2.0**-8, 2.0**-12, 2.0**-20])
def test_a_fine_step_shortens_the_shift_without_changing_a_code(scale: float) -> None:
    check(random_codes(3), scale, 8)
    assert softmax_constants(scale, 8).shift < 30


def test_a_vanishing_step_means_equal_scores() -> None:
    assert bool((ours_of(random_codes(5, keys=32), 2.0**-38, 8) == 5).all())


@pytest.mark.parametrize("scale", [0.02, 0.1])
def test_codes_are_the_rounded_logarithm_of_the_softmax(scale: float) -> None:
    """k covers u in [1.5 · 2^(k−1), 1.5 · 2^k), so k + log2 P is in (−0.585, 0.415].

    u is rounded to a whole number, which matters up to u = 3, k = 2. i-exp is off by 0.2 %, up to a step of
    the score, and its ln 2 is rounded up to whole steps, which adds up over the halvings; after 30 it stops.
    """
    codes = random_codes(11)
    k = ours_of(codes, scale, 8)
    exact = -torch.log2(torch.softmax(codes.double() * scale, -1))
    off = k - exact
    slack = 0.01 + 2 * scale + exact * (math.ceil(0.6931 / scale) * scale / math.log(2) - 1)
    inside = (k >= 3) & (exact < 30)
    assert bool(((off > -0.585 - slack) & (off < 0.415 + slack))[inside].all())
    assert bool((off.abs() < 1.0)[k < 3].all())
    assert bool((k[exact >= 31] >= 30).all())


def test_four_bits_drop_what_is_below_two_to_the_minus_15() -> None:
    codes = torch.tensor([[0, -100, -110, -127]])
    k = ours_of(codes, 0.1, 4)
    assert k[0, 0] == 0
    assert [int(v) for v in k[0, 1:]] == [14, 16, 18]
    assert powers_of_two(k, 4).tolist() == [[1.0, 2.0**-14, 0.0, 0.0]]
    assert powers_of_two(k, 8).tolist() == [[1.0, 2.0**-14, 2.0**-16, 2.0**-18]]


def test_a_step_beyond_ln_2_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'attn'.*0.6931"):
        softmax_constants(0.8, 4, "attn")
