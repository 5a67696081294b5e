"""The width of every layer's operands under a recipe."""

from collections.abc import Iterable
from dataclasses import dataclass

from quant.census import LayerCount, LayerKind
from quant.errors import Unsupported
from quant.recipe import Recipe

__all__ = ["FLOAT_BITS", "LayerBits", "bits_of", "operand_roles"]

FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerBits:
    """Widths in bits: 2 to 8 are integers, 16 is fp16, 32 is fp32.

    Attributes:
        weight: of the constant operand; in an attention product of the second operand, k or v.
        activation: of the layer's input; in an attention product of the first operand, q or the weights.
        output: of the result as it is written to memory.
    """

    weight: int = FLOAT_BITS
    activation: int = FLOAT_BITS
    output: int = FLOAT_BITS


def operand_roles(kind: LayerKind) -> tuple[str, str, str]:
    """The roles whose formats are a layer's weight, activation and output of :class:`LayerBits`.

    Empty where no recipe addresses an operand.

    >>> operand_roles(LayerKind.ATTENTION_PV)
    ('attention_pv.input', 'softmax.output', '')
    """
    if kind is LayerKind.OTHER:
        return "", "", ""
    if kind is LayerKind.ATTENTION_QK:
        return "attention_qk.input", "attention_qk.input", ""
    if kind is LayerKind.ATTENTION_PV:
        return "attention_pv.input", "softmax.output", ""
    return f"{kind}.weight", f"{kind}.input", f"{kind}.output"


def bits_of(
    recipe: Recipe, census: Iterable[LayerCount], float_bits: int = FLOAT_BITS
) -> dict[str, LayerBits]:
    """The widths that ``recipe`` asks for, by layer name.

    What the recipe leaves in float has ``float_bits``. An output is narrow only where the recipe names its
    role: a value that is written in float and rounded by its reader moves as float. Scales are not counted,
    and a log2 code counts as an integer of its width.

    Args:
        recipe: what is quantized.
        census: the layers.
        float_bits: 32, or 16 where the rest runs in half precision.

    Raises:
        Unsupported: the recipe asks for FP8, whose energy is not among the constants.
    """

    def width(role: str, layer: str) -> int:
        spec = recipe.spec_for(role, layer) if role else None
        if spec is not None and spec.scheme == "fp8_e4m3":
            raise Unsupported(
                f"'{layer}': the energy of FP8 arithmetic is not known, only of int8, fp16 and fp32"
            )
        return float_bits if spec is None else spec.bits

    return {
        layer.name: LayerBits(*(width(role, layer.name) for role in operand_roles(layer.kind)))
        for layer in census
    }
