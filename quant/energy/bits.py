"""The width of every layer's operands under a recipe."""

from collections.abc import Iterable
from dataclasses import dataclass

from quant.census import LayerCount, LayerKind
from quant.recipe import Recipe

__all__ = ["FLOAT_BITS", "LayerBits", "bits_of"]

FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerBits:
    """Widths in bits: 2 to 8 are integers, 16 is fp16, 32 is fp32.

    Attributes:
        weight: of the constant operand; of the second operand in a product of two activations.
        activation: of the layer's input; of the first operand in such a product.
        output: of the result as it is written to memory.
    """

    weight: int = FLOAT_BITS
    activation: int = FLOAT_BITS
    output: int = FLOAT_BITS


def bits_of(
    recipe: Recipe, census: Iterable[LayerCount], float_bits: int = FLOAT_BITS
) -> dict[str, LayerBits]:
    """The widths that ``recipe`` asks for, by layer name.

    What the recipe leaves in float has ``float_bits``. An output is narrow only where the recipe names its
    role: a value that is written in float and rounded by its reader moves as float. Scales are not counted.

    Args:
        recipe: what is quantized.
        census: the layers.
        float_bits: 32, or 16 where the rest runs in half precision.
    """

    def width(role: str, layer: str) -> int:
        spec = recipe.spec_for(role, layer)
        return float_bits if spec is None else spec.bits

    found = {}
    for layer in census:
        if layer.kind is LayerKind.OTHER:
            found[layer.name] = LayerBits(float_bits, float_bits, float_bits)
        elif layer.weights:
            roles = (f"{layer.kind}.{end}" for end in ("weight", "input", "output"))
            found[layer.name] = LayerBits(*(width(role, layer.name) for role in roles))
        else:
            both = width(f"{layer.kind}.input", layer.name)
            found[layer.name] = LayerBits(both, both, float_bits)
    return found
