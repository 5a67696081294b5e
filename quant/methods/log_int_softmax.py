"""Log-Int-Softmax: attention weights that are powers of two, computed on integers.

It needs the role ``softmax.input`` quantized with one scale per tensor. The product with V becomes shifts and
additions where V is quantized too (role ``attention_pv.input``); the attention weights need no format of
their own. Simulated: no runtime has such a kernel, and the exported functions compute the same integers from
standard operators.

Formulas and source: :mod:`quant.integer.softmax`.
"""

from collections.abc import Collection
from typing import Literal

import torch
from pydantic import Field
from torch import fx

from quant.graph.nodes import is_call, module_of, shape_of
from quant.integer.marks import SOFTMAX
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.statistics import Statistics
from quant.recipe import Recipe

__all__ = ["LogIntSoftmaxMethod", "LogIntSoftmaxOptions"]

NAME = "log_int_softmax"


class LogIntSoftmaxOptions(MethodOptions):
    """Options.

    Attributes:
        bits: width of the codes; with 4, what is below 2^-15 becomes 0.
        fraction_bits: shift the scores' codes left by so many bits, which makes their step S as much finer.
            i-exp rounds ln 2 to whole steps, so at S = 0.15 it computes a softmax of 0.92 times the scores.
            FQ-ViT has 0.
    """

    bits: Literal[3, 4, 5, 6, 8] = 4
    fraction_bits: int = Field(default=0, ge=0, le=8)


@register_method(NAME, LogIntSoftmaxOptions)
class LogIntSoftmaxMethod:
    """The method, see the module's text."""

    def __init__(self, options: LogIntSoftmaxOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """Nothing."""
        del graph
        return []

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Mark every softmax that can be computed so; the layers come once the quantizers stand."""
        del seen
        notes = []
        for node in graph.graph.nodes:
            if not is_call(node, torch.ops.aten.softmax.int):
                continue
            layer = module_of(node) or node.name
            if recipe.spec_for("softmax.input", layer) is None:
                notes.append(MethodNote(NAME, layer, False, "role softmax.input is not quantized"))
            elif node.args[1] not in (-1, len(shape_of(node)) - 1):
                notes.append(MethodNote(NAME, layer, False, "it is not over the last axis"))
            else:
                node.meta[SOFTMAX] = (self._options.bits, self._options.fraction_bits)
        return notes
