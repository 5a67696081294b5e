"""LayerNorm on integers, for recipes that quantize a transformer's stream.

It needs the role ``layer_norm.input`` quantized (per tensor, or per channel by observer ``power_of_two``) and
one scale behind it. Simulated: no runtime has such a kernel, and the exported function computes the same
integers from standard operators.

Formulas and source: :mod:`quant.integer.layer_norm`.
"""

from collections.abc import Collection

import torch
from pydantic import Field
from torch import fx

from quant.graph.nodes import constant_name, is_call, module_of
from quant.integer.layer_norm import MULTIPLIER_BITS
from quant.integer.marks import LAYER_NORM
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.statistics import Statistics
from quant.recipe import Recipe

__all__ = ["IntegerLayerNormMethod", "IntegerLayerNormOptions"]

NAME = "integer_layer_norm"


class IntegerLayerNormOptions(MethodOptions):
    """Options.

    Attributes:
        multiplier_bits: width of the dyadic multiplier M; 8 in FQ-ViT.
    """

    multiplier_bits: int = Field(default=MULTIPLIER_BITS, ge=2, le=24)


@register_method(NAME, IntegerLayerNormOptions)
class IntegerLayerNormMethod:
    """The method, see the module's text."""

    def __init__(self, options: IntegerLayerNormOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """Nothing."""
        del graph
        return []

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Mark every LayerNorm that can be computed so; the layers come once the quantizers stand."""
        del seen
        notes = []
        for node in graph.graph.nodes:
            if not is_call(node, torch.ops.aten.layer_norm.default):
                continue
            layer = module_of(node) or node.name
            if recipe.spec_for("layer_norm.input", layer) is None:
                notes.append(MethodNote(NAME, layer, False, "role layer_norm.input is not quantized"))
            elif len(node.args[1]) != 1 or None in map(constant_name, [*node.args[2:4], None, None][:2]):
                reason = "it needs weight and bias, and to normalize the last axis only"
                notes.append(MethodNote(NAME, layer, False, reason))
            else:
                node.meta[LAYER_NORM] = self._options.multiplier_bits
        return notes
