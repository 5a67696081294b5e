"""A per-channel scale between GELU and the linear layer behind it.

    y = W x + b = (W diag(s)) (x / s) + b,    s_c = max|x_c|^a / max|W_:,c|^(1 − a)

The division by s is one extra multiplication per element, because GELU is not linear and cannot absorb it;
the rest is folded into the weight.

``exponent: search`` takes, for each layer, the exponent with the least output error on sampled rows, and puts
nothing there where no exponent makes the error noticeably smaller.

``centre: true`` also tries every exponent behind a subtraction of each channel's mean m in the sampled rows::

    y = (W diag(s)) ((x − m) / s) + (b + W m),    s_c = max|x_c − m_c|^a / max|W_:,c|^(1 − a)

Source: SmoothQuant (Xiao et al. 2023, equation 4), applied where the original leaves the activation alone.
The search is described in :mod:`quant.methods.exponent_search`.
"""

from collections.abc import Collection
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor, fx

from quant.graph.nodes import constant_name, tensor_of
from quant.graph.parameters import is_private, update_parameter
from quant.methods.exponent_search import BIAS_METHOD, Exponent, ExponentOptions, best_exponent, reader_of
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
        centre: take each channel's mean away where a search finds that to be better. Done only in a recipe
            with ``bias_correction``: rounded weights would move every output otherwise.
    """

    exponent: Exponent = 0.75
    centre: bool = False

    @model_validator(mode="after")
    def _searches(self) -> Self:
        if self.centre and not self.searches:
            raise ValueError("centre needs exponent: search")
        return self


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
            mean = torch.zeros_like(seen[found.gelu].low)
            if self._options.centre and _can_centre(graph, found, recipe):
                exponent, share, mean = self._centred(graph, found, seen, recipe, (exponent, share))
            text = f"exponent {exponent:g}" + (", centred" if bool(mean.any()) else "")
            if self._options.searches:
                text += f": output error {share:.2f} times the unscaled one"
            if share > WORTH:
                text = f"the best is {text}, not worth a multiplication"
                notes.append(MethodNote(NAME, found.layer, False, text))
                continue
            _insert(graph, found, seen, _scale(graph, found, seen, exponent, mean), mean)
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
                lambda a: reader.error(_scale(graph, found, seen, a, torch.zeros(()))),
                reader.error(),
            )

        exponent, share = seen.once(f"{NAME}/{found.layer}/exponent", search).tolist()
        return exponent, share

    def _centred(
        self,
        graph: fx.GraphModule,
        found: GeluLinear,
        seen: Statistics,
        recipe: Recipe,
        plain: tuple[float, float],
    ) -> tuple[float, float, Tensor]:
        """a, the share of the error, and m [C]: those of ``plain`` and zeros where centring is no better."""

        def search() -> Tensor:
            rows = seen.samples[found.gelu]
            mean = rows.double().mean(dim=0)
            reader = reader_of(graph, found.linear, rows, recipe)

            def error(exponent: float) -> float:
                scale = _scale(graph, found, seen, exponent, mean)
                return reader.error(scale, -mean / scale)

            best = best_exponent(self._options.candidates, error, reader.error())
            return torch.cat([best, mean])

        exponent, share, *mean = seen.once(f"{NAME}/{found.layer}/centred", search).tolist()
        if share > WORTH * plain[1]:
            return *plain, torch.zeros(len(mean), dtype=torch.float64)
        return exponent, share, torch.tensor(mean, dtype=torch.float64)


def _can_centre(graph: fx.GraphModule, found: GeluLinear, recipe: Recipe) -> bool:
    """Whether there is a bias to fold into, and something takes the rounded weights' error back."""
    bias = [*found.linear.args, None][2]
    if bias is None or not is_private(graph, bias):
        return False
    rounds = spec_at(recipe, "linear.weight", found.linear) is not None
    return not rounds or any(method.name == BIAS_METHOD for method in recipe.methods)


def _insert(graph: fx.GraphModule, found: GeluLinear, seen: Statistics, scale: Tensor, mean: Tensor) -> None:
    """Put (x − m) / s in front of the layer, and s and m into its weight and bias."""
    weight = found.linear.args[1]
    if bool(mean.any()):
        shift = tensor_of(graph, str(constant_name(weight))).detach().double() @ mean.double()
        update_parameter(graph, found.linear.args[2], lambda b: b + shift)
    update_parameter(graph, weight, lambda w: w * scale)
    inverse = (1.0 / scale).float()
    last = insert_in_front(graph, found.linear, aten.mul.Tensor, input_scale=inverse)
    derive(seen, last, found.gelu, inverse, torch.zeros_like(inverse))
    if bool(mean.any()):
        offset = (mean * inverse.double()).float()
        centred = insert_in_front(graph, found.linear, aten.sub.Tensor, input_mean=offset)
        derive(seen, centred, last, torch.ones_like(offset), -offset)


def _scale(
    graph: fx.GraphModule, found: GeluLinear, seen: Statistics, exponent: float, mean: Tensor
) -> Tensor:
    """The scale s, [C], of x − m."""
    weight = tensor_of(graph, str(constant_name(found.linear.args[1])))  # [O, C]
    low, high = (bound.double() - mean for bound in (seen[found.gelu].low, seen[found.gelu].high))
    activation = torch.maximum(low.abs(), high.abs()).clamp(min=1e-5)
    column = weight.detach().abs().amax(dim=0).clamp(min=1e-5).double()
    scale: Tensor = activation**exponent / column ** (1.0 - exponent)
    return scale
