"""Bit flips of one multiply-accumulate: dynamic power is proportional to them.

Source: "Energy awareness in low precision neural networks", arXiv 2202.02783. Operands are taken as uniform
and independent, registers as holding the operands of one product after those of another. Of the terms, the
registers' can be simulated; the 0.5 b² inside the multiplier is the paper's gate-level measurement.

With b_p = b_w + b_x bits of a product and B of the accumulator:

    inputs             0.5 (b_w + b_x)          half of the bits of two registers flip
    multiplier         0.5 max(b_w, b_x)²       narrowing one operand alone saves almost nothing
    accumulator input  0.5 B signed             a change of sign flips the whole sign extension
                       0.5 b_p unsigned
    sum and register   0.5 b_p each
"""

from dataclasses import dataclass

from quant.energy.model import MultiplierRule
from quant.errors import BadInput

__all__ = ["ACCUMULATOR_BITS", "BitFlips", "mac_flips"]

ACCUMULATOR_BITS = 32


@dataclass(frozen=True)
class BitFlips:
    """Expected bit flips of one multiply-accumulate, by element.

    Attributes:
        inputs: the multiplier's two input registers.
        multiplier: inside the multiplier.
        accumulator_input: the product on its way to the accumulator.
        accumulator_sum: the adder's output and the register behind it.
    """

    inputs: float
    multiplier: float
    accumulator_input: float
    accumulator_sum: float

    @property
    def total(self) -> float:
        """All elements."""
        return self.inputs + self.multiplier + self.accumulator_input + self.accumulator_sum


def mac_flips(
    weight_bits: int,
    activation_bits: int,
    signed: bool,
    accumulator_bits: int = ACCUMULATOR_BITS,
    rule: MultiplierRule = MultiplierRule.MAX,
) -> BitFlips:
    """Expected bit flips of one integer multiply-accumulate.

    >>> mac_flips(4, 4, signed=True).total, mac_flips(4, 4, signed=False).total
    (36.0, 24.0)

    Args:
        weight_bits: width of one operand.
        activation_bits: width of the other.
        signed: whether products and sums carry a sign.
        accumulator_bits: B.
        rule: ``max``, or ``product`` for a multiplier built for exactly these widths.

    Raises:
        BadInput: a width below 1, or a product wider than the accumulator.
    """
    product_bits = weight_bits + activation_bits
    if min(weight_bits, activation_bits) < 1 or product_bits > accumulator_bits:
        raise BadInput(
            f"{weight_bits} and {activation_bits} bits: both must be at least 1, and their sum at most the "
            f"accumulator's {accumulator_bits}"
        )
    wide = max(weight_bits, activation_bits)
    area = wide**2 if rule is MultiplierRule.MAX else weight_bits * activation_bits
    return BitFlips(
        inputs=0.5 * product_bits,
        multiplier=0.5 * area,
        accumulator_input=0.5 * (accumulator_bits if signed else product_bits),
        accumulator_sum=0.5 * product_bits + 0.5 * product_bits,
    )
