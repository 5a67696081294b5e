"""Bit flips against the published table and against registers simulated bit by bit."""

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.energy.model import MultiplierRule
from quant.energy.toggles import mac_flips
from quant.errors import BadInput

STEPS, ROW = 192 * 500, 192


@pytest.mark.parametrize(
    ("bits", "signed", "unsigned"),
    [(2, 24, 10), (3, 29.5, 16.5), (4, 36, 24), (5, 43.5, 32.5), (6, 52, 42), (8, 72, 64)],
)
def test_the_published_table(bits: int, signed: float, unsigned: float) -> None:
    assert mac_flips(bits, bits, signed=True).total == signed
    assert mac_flips(bits, bits, signed=False).total == unsigned


def flips(values: NDArray[np.int64], width: int) -> float:
    """Mean number of bits that differ between neighbours in a register of ``width`` bits."""
    register = values & ((1 << width) - 1)
    return float(np.bitwise_count(register[1:] ^ register[:-1]).mean())


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_registers_flip_as_simulated(bits: int, signed: bool) -> None:
    """Uniform operands, sums of 192 products as in ViT-Tiny.

    The inputs' term is exact: 1 % is the noise of the sample. Products have one zero operand in 2^b and few
    trailing ones, and sums move less in their upper bits, so that those terms are rough: 20 %.
    """
    rng = np.random.default_rng(0)
    low = -(1 << (bits - 1)) if signed else 0
    w, x = rng.integers(low, low + (1 << bits), (2, STEPS))
    product = w * x
    total = product.reshape(-1, ROW).cumsum(axis=1).ravel()
    model = mac_flips(bits, bits, signed)
    assert flips(w, bits) + flips(x, bits) == pytest.approx(model.inputs, rel=0.01)
    assert flips(product, 32) == pytest.approx(model.accumulator_input, rel=0.2)
    assert 2 * flips(total, 32) == pytest.approx(model.accumulator_sum, rel=0.2)  # the sum, and its register


def test_unequal_widths_follow_the_wider_operand() -> None:
    narrow, wide = mac_flips(4, 8, signed=True), mac_flips(8, 8, signed=True)
    assert narrow.multiplier == wide.multiplier == 32
    assert narrow.inputs == 6
    assert mac_flips(4, 8, signed=True, rule=MultiplierRule.PRODUCT).multiplier == 16
    assert mac_flips(4, 8, signed=False) == mac_flips(8, 4, signed=False)


def test_the_accumulator_counts_only_where_signs_flip_it() -> None:
    assert mac_flips(4, 4, signed=True, accumulator_bits=16).total == 36 - 8
    assert mac_flips(4, 4, signed=False, accumulator_bits=16).total == 24


@pytest.mark.parametrize(("weight", "activation", "accumulator"), [(0, 4, 32), (8, 8, 15)])
def test_widths_that_cannot_be_are_refused(weight: int, activation: int, accumulator: int) -> None:
    with pytest.raises(BadInput, match="accumulator"):
        mac_flips(weight, activation, signed=False, accumulator_bits=accumulator)
