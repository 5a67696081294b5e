"""A per-channel scale between GELU and the linear layer behind it.

    y = W x + b = (W diag(s)) (x / s) + b,    s_c = max|x_c|^a / max|W_:,c|^(1 − a)

The division by s is one extra multiplication per element, because GELU is not linear and cannot absorb it;
the rest is folded into the weight.

``exponent: search`` takes, for each layer, the exponent with the least output error on sampled rows, and puts
nothing there where no exponent makes the error noticeably smaller.

Source: SmoothQuant (Xiao et al. 2023, equation 4), applied where the original leaves the activation alone.
The search is described in :mod:`quant.methods.exponent_search`.
"""

from collections.abc import Collection

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, tensor_of
from quant.graph.parameters import update_parameter
from quant.methods.exponent_search import Exponent, ExponentOptions, best_exponent, reader_of
from quant.methods.gelu_linear import GeluLinear, find_gelu_linears
from quant.methods.insert import derive, insert_in_front
from quant.methods.registry import MethodNote, register_method
from quant.methods.statistics import Statistics
from quant.placement import spec_at
from quant.recipe import Recipe

__all__ = ["GeluScale", "GeluScaleOptions"]

aten = torch.ops.aten
NAME = "gelu_scale"
WORTH = 0.95
"""A searched scale must bring the output error below this share of what it is without one."""


class GeluScaleOptions(ExponentOptions):
    """Options.

    Attributes:
        exponent: a; 0 moves no range from activation to weight, 1 all of it; or ``search``.
    """

    exponent: Exponent = 0.75


@register_method(NAME, GeluScaleOptions)
class GeluScale:
    """The method, see the module's text."""

    def __init__(self, options: GeluScaleOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """Every GELU in front of a linear layer."""
        return [found.gelu for found in find_gelu_linears(graph)]

    def sampled(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The same, where rows are looked at."""
        return self.watched(graph) if self._options.searches else []

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Put the scale behind each GELU."""
        notes = []
        for found in find_gelu_linears(graph):
            if spec_at(recipe, "linear.input", found.linear) is None:
                continue
            if found.reason is not None:
                notes.append(MethodNote(NAME, found.layer, False, found.reason))
                continue
            exponent, share = self._exponent(graph, found, seen, recipe)
            text = f"exponent {exponent:g}"
            if self._options.searches:
                text += f": output error {share:.2f} times the unscaled one"
            if share > WORTH:
                text = f"the best is {text}, not worth a multiplication"
                notes.append(MethodNote(NAME, found.layer, False, text))
                continue
            scale = _scale(graph, found, seen, exponent)
            update_parameter(graph, found.linear.args[1], lambda w, s=scale: w * s)  # type: ignore[misc]
            inverse = (1.0 / scale).float()
            scaled = insert_in_front(graph, found.linear, aten.mul.Tensor, input_scale=inverse)
            derive(seen, scaled, found.gelu, inverse, torch.zeros_like(inverse))
            notes.append(MethodNote(NAME, found.layer, True, f"channel scale behind GELU, {text}"))
        graph.graph.lint()
        graph.recompile()
        return notes

    def _exponent(
        self, graph: fx.GraphModule, found: GeluLinear, seen: Statistics, recipe: Recipe
    ) -> tuple[float, float]:
        """a, and the output error as a share of the unscaled one, 0 where it is not known."""
        if self._options.exponent != "search":
            return self._options.exponent, 0.0

        def search() -> Tensor:
            reader = reader_of(graph, found.linear, seen.samples[found.gelu], recipe)
            return best_exponent(
                self._options.candidates,
                lambda a: reader.error(_scale(graph, found, seen, a)),
                reader.error(),
            )

        exponent, share = seen.once(f"{NAME}/{found.layer}/exponent", search).tolist()
        return exponent, share


def _scale(graph: fx.GraphModule, found: GeluLinear, seen: Statistics, exponent: float) -> Tensor:
    """The scale s, [C]."""
    weight = tensor_of(graph, str(constant_name(found.linear.args[1])))  # [O, C]
    activation = seen[found.gelu].amax.clamp(min=1e-5).double()
    column = weight.detach().abs().amax(dim=0).clamp(min=1e-5).double()
    scale: Tensor = activation**exponent / column ** (1.0 - exponent)
    return scale
