"""A per-channel scale between GELU and the linear layer behind it.

    y = W x + b = (W diag(s)) (x / s) + b,    s_c = max|x_c|^a / max|W_:,c|^(1 − a)

The division by s is one extra multiplication per element, because GELU is not linear and cannot absorb it;
the rest is folded into the weight.

Source: SmoothQuant (Xiao et al. 2023, equation 4), applied where the original leaves the activation alone.
"""

from collections.abc import Collection

import torch
from pydantic import Field
from torch import fx

from quant.graph.nodes import constant_name, tensor_of
from quant.graph.parameters import add_constant, update_parameter
from quant.methods.gelu_linear import find_gelu_linears
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.statistics import ChannelRange, Statistics
from quant.recipe import Recipe

__all__ = ["GeluScale", "GeluScaleOptions"]

aten = torch.ops.aten
NAME = "gelu_scale"


class GeluScaleOptions(MethodOptions):
    """Options.

    Attributes:
        exponent: a; 0 moves no range from activation to weight, 1 all of it.
    """

    exponent: float = Field(default=0.75, ge=0.0, le=1.0)


@register_method(NAME, GeluScaleOptions)
class GeluScale:
    """The method, see the module's text."""

    def __init__(self, options: GeluScaleOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """Every GELU in front of a linear layer."""
        return [found.gelu for found in find_gelu_linears(graph)]

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Put the scale behind each GELU."""
        notes = []
        for found in find_gelu_linears(graph):
            if recipe.spec_for("linear.input", found.layer) is None:
                continue
            if found.reason is not None:
                notes.append(MethodNote(NAME, found.layer, False, found.reason))
                continue
            bounds = seen[found.gelu]
            weight = tensor_of(graph, str(constant_name(found.linear.args[1])))  # [O, C]
            a = self._options.exponent
            activation = bounds.amax.clamp(min=1e-5).double()
            column = weight.abs().amax(dim=0).clamp(min=1e-5).double()
            scale = activation**a / column ** (1.0 - a)  # s [C]
            update_parameter(graph, found.linear.args[1], lambda w, s=scale: w * s)  # type: ignore[misc]
            inverse = (1.0 / scale).float()
            constant = add_constant(graph, f"{found.layer}.input_scale", inverse, found.linear)
            with graph.graph.inserting_before(found.linear):
                scaled = graph.graph.call_function(aten.mul.Tensor, (found.gelu, constant))
            scaled.meta["nn_module_stack"] = found.linear.meta.get("nn_module_stack", {})
            scaled.meta["val"] = found.gelu.meta["val"]
            found.linear.replace_input_with(found.gelu, scaled)
            seen[scaled] = ChannelRange(bounds.low * inverse, bounds.high * inverse)
            notes.append(MethodNote(NAME, found.layer, True, f"channel scale behind GELU, exponent {a:g}"))
        graph.graph.lint()
        graph.recompile()
        return notes
