"""The energy of one image: modelled from the recipe's widths, and measured where the system has counters."""

from dataclasses import dataclass

from torch import fx

from quant.census import take_census
from quant.energy.bits import FLOAT_BITS, LayerBits, bits_of
from quant.energy.model import DEFAULTS, energy_of
from quant.errors import Unsupported
from quant.recipe import Recipe

__all__ = ["MODEL", "Energy", "modelled"]

_MILLI = 1e3

MODEL = (
    f"arithmetic by width ({DEFAULTS.rule.value} rule), weights read from {DEFAULTS.weights.value} and "
    f"activations from {DEFAULTS.activations.value} once per image; constants of Horowitz 2014, 45 nm"
)
"""What the modelled figure assumes, in words."""


@dataclass(frozen=True)
class Energy:
    """Energy of one image, in mJ.

    Attributes:
        modelled_mj: by :mod:`quant.energy`, at the widths that the recipe asks for, whatever runs them.
        arithmetic_mj: of that, multiplications and additions.
        weights_mj: of that, reading weights.
        activations_mj: of that, reading inputs and writing outputs.
        ratio: the float model's / this one's, above 1 when this one takes less.
        measured_mj: by the processors' own counters (RAPL), everything else on the package included; ``None``
            where they cannot be read.
        model: what the modelled figure assumes.
    """

    modelled_mj: float
    arithmetic_mj: float
    weights_mj: float
    activations_mj: float
    ratio: float = 1.0
    measured_mj: float | None = None
    model: str = MODEL


def modelled(
    graph: fx.GraphModule,
    recipe: Recipe | None,
    measured_mj: float | None = None,
    float_bits: int = FLOAT_BITS,
) -> Energy | None:
    """The energy of a model under a recipe.

    Args:
        graph: the captured float graph.
        recipe: what is quantized, its widths decided; None for float.
        measured_mj: what the counters said.
        float_bits: of the numbers of a float model, 16 or 32.

    Returns:
        The figures, or None where the model knows no energy for one of the formats.
    """
    census = take_census(graph)
    floats = {layer.name: LayerBits(float_bits, float_bits, float_bits) for layer in census}
    base = energy_of(census, {layer.name: LayerBits() for layer in census})
    try:
        own = energy_of(census, floats if recipe is None else bits_of(recipe, census))
    except Unsupported:
        return None
    return Energy(
        modelled_mj=_MILLI * own.total,
        arithmetic_mj=_MILLI * own.macs,
        weights_mj=_MILLI * own.weights,
        activations_mj=_MILLI * own.activations,
        ratio=base.total / own.total,
        measured_mj=measured_mj,
    )
