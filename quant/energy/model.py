"""The energy of one inference: arithmetic by bit-width, and memory traffic by bit.

    E = Σ_layers N_MAC · E_MAC(b_w, b_x) + (N_w · b_w · reads + N_in · b_x + N_out · b_y) · E_bit

It is a model, not a measurement: no control, no instruction fetch, no partial sums, and only the layers of a
census (softmax, LayerNorm and GELU are left out). It serves to compare bit-widths of one network.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from quant.census import LayerCount, LayerKind
from quant.energy.bits import LayerBits
from quant.energy.constants import HOROWITZ_45NM, EnergyConstants, Memory
from quant.errors import BadInput

__all__ = ["EnergySettings", "LayerEnergy", "ModelEnergy", "MultiplierRule", "energy_of", "mac_energy"]

_HALF, _SINGLE = 16, 32
_INTEGERS = range(2, 9)


class MultiplierRule(StrEnum):
    """How an integer multiplier's energy grows with the widths of its operands."""

    MAX = "max"
    """max(b_w, b_x)²: an ordinary multiplier is as wide as its wider operand (arXiv 2202.02783, obs. 2)."""
    PRODUCT = "product"
    """b_w · b_x: a multiplier built for exactly these widths, the optimistic alternative."""


@dataclass(frozen=True)
class EnergySettings:
    """What is assumed of the hardware.

    Attributes:
        rule: how multipliers scale.
        weights: where the weights live.
        activations: where the activations live; the default keeps them on the chip.
        weight_reads: how often each weight is read for one image; 1 / B when B images share a read.
        constants: joules per operation.
    """

    rule: MultiplierRule = MultiplierRule.MAX
    weights: Memory = Memory.DRAM
    activations: Memory = Memory.SRAM_1M
    weight_reads: float = 1.0
    constants: EnergyConstants = field(default=HOROWITZ_45NM)

    def __post_init__(self) -> None:
        if not 0 <= self.weight_reads < float("inf"):
            raise BadInput(f"weight_reads must be a number >= 0, got {self.weight_reads}")


DEFAULTS = EnergySettings()


@dataclass(frozen=True)
class LayerEnergy:
    """Joules that one layer spends on one image.

    Attributes:
        name: the layer.
        kind: what it multiplies.
        bits: its widths.
        macs: multiplications and additions.
        weights: reading the weights.
        activations: reading the inputs and writing the outputs.
    """

    name: str
    kind: LayerKind
    bits: LayerBits
    macs: float
    weights: float
    activations: float

    @property
    def total(self) -> float:
        """All of it, joules."""
        return self.macs + self.weights + self.activations


@dataclass(frozen=True)
class ModelEnergy:
    """Joules that a network spends on one image, by layer in the order of execution."""

    layers: tuple[LayerEnergy, ...]

    @property
    def macs(self) -> float:
        """Multiplications and additions, joules."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> float:
        """Reading the weights, joules."""
        return sum(layer.weights for layer in self.layers)

    @property
    def activations(self) -> float:
        """Reading inputs and writing outputs, joules."""
        return sum(layer.activations for layer in self.layers)

    @property
    def total(self) -> float:
        """All of it, joules."""
        return sum(layer.total for layer in self.layers)


def mac_energy(weight_bits: int, activation_bits: int, settings: EnergySettings = DEFAULTS) -> float:
    """Joules of one multiply-accumulate.

    - integers: ``E_mult(8) · m / 64 + E_add(32)`` with m = max(b_w, b_x)² or b_w · b_x (the square law gives
      3.2 pJ for 32 bits, Horowitz 3.1);
    - an operand in float makes the other float too, in the wider of the float types: weight-only
      quantization saves memory, not arithmetic.

    >>> [round(mac_energy(*bits) * 1e12, 2) for bits in ((8, 8), (4, 4), (4, 16), (32, 32))]
    [0.3, 0.15, 1.5, 4.6]

    Raises:
        BadInput: a width other than 2 to 8, 16 or 32.
    """
    for bits in (weight_bits, activation_bits):
        if bits not in _INTEGERS and bits not in (_HALF, _SINGLE):
            raise BadInput(f"no energy is known for {bits} bits; use 2 to 8 (integer), 16 or 32 (float)")
    constants, widest = settings.constants, max(weight_bits, activation_bits)
    if widest == _SINGLE:
        return constants.fp32_multiply + constants.fp32_add
    if widest == _HALF:
        return constants.fp16_multiply + constants.fp16_add
    square = widest**2 if settings.rule is MultiplierRule.MAX else weight_bits * activation_bits
    return constants.int8_multiply * square / 8**2 + constants.int32_add


def energy_of(
    census: Iterable[LayerCount],
    bits: Mapping[str, LayerBits],
    settings: EnergySettings = DEFAULTS,
) -> ModelEnergy:
    """The energy of one image.

    Args:
        census: the layers.
        bits: widths by layer name, see :func:`quant.energy.bits.bits_of`.
        settings: what is assumed of the hardware.

    Raises:
        BadInput: a layer without widths, or a width that has no energy.
    """
    layers = []
    for layer in census:
        if layer.name not in bits:
            raise BadInput(f"no bit-widths are given for layer '{layer.name}'")
        layers.append(_layer(layer, bits[layer.name], settings))
    return ModelEnergy(tuple(layers))


def _layer(layer: LayerCount, bits: LayerBits, settings: EnergySettings) -> LayerEnergy:
    weight_bit = settings.constants.per_bit(settings.weights)
    activation_bit = settings.constants.per_bit(settings.activations)
    read = layer.inputs * bits.activation + layer.second_inputs * bits.weight
    written = layer.outputs * bits.output
    return LayerEnergy(
        name=layer.name,
        kind=layer.kind,
        bits=bits,
        macs=layer.macs * mac_energy(bits.weight, bits.activation, settings),
        weights=layer.weights * bits.weight * settings.weight_reads * weight_bit,
        activations=(read + written) * activation_bit,
    )
