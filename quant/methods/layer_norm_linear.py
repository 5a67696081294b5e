"""LayerNorm → Linear reparameterization: per-channel activation ranges at the cost of one scale per tensor.

The output x of a LayerNorm has channels of very different range. With per-channel parameters (s_c, z_c) and
the wanted common ones (s, z), r_c = s_c / s::

    x~_c = x_c / r_c + s (z_c − z)      γ~ = γ / r,  β~ = β / r + s (z_c − z)
    W~_c = W_c · r_c                    b~ = b − W @ (s_c (z_c − z))

so that W~ x~ + b~ = W x + b exactly, and x~_c / s + z = x_c / s_c + z_c: the common codes of x~ are the
per-channel codes of x. All zero points are integers, which QDQ needs. With z in the middle of the codes
(``zero_point: zero``) x~ is centred, so that the symmetric formats of TensorRT lose nothing either.

Source: RepQ-ViT (Li et al. 2023, section 3.2), in the form that keeps the zero point an integer.
"""

from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import Tensor, fx

from quant.graph.nodes import SHAPE_ONLY, constant_name, is_call, layer_name, module_of, shape_of, tensor_of
from quant.graph.parameters import is_private, update_parameter
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.statistics import ChannelRange, Statistics
from quant.recipe import Recipe

__all__ = ["LayerNormLinear", "LayerNormLinearOptions"]

aten = torch.ops.aten
NAME = "layer_norm_linear"


class LayerNormLinearOptions(MethodOptions):
    """Options.

    Attributes:
        zero_point: ``integer`` takes the rounded mean of the channels' zero points, ``zero`` the middle code.
    """

    zero_point: Literal["integer", "zero"] = "integer"


@register_method(NAME, LayerNormLinearOptions)
class LayerNormLinear:
    """The method, see the module's text."""

    def __init__(self, options: LayerNormLinearOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """Every LayerNorm's output."""
        return [n for n in graph.graph.nodes if is_call(n, aten.layer_norm.default)]

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Fold into every LayerNorm that feeds nothing but linear layers."""
        notes = []
        for norm in self.watched(graph):
            layer = module_of(norm) or norm.name
            linears = _linear_readers(norm)
            reason = _reason_against(graph, norm, linears)
            specs = [recipe.spec_for("linear.input", layer_name(n)) for n in linears]
            spec = specs[0] if specs and all(s == specs[0] for s in specs) else None
            if reason is None and spec is None:
                reason = "the linear layers behind it are not quantized alike"
            if reason is not None or spec is None:
                notes.append(MethodNote(NAME, layer, False, reason or ""))
                continue
            ratio, shift = self._fold(graph, norm, linears, seen[norm], spec.bits)
            seen.rescale(norm, 1.0 / ratio, shift)
            names = ", ".join(layer_name(n) for n in linears)
            notes.append(MethodNote(NAME, layer, True, f"channel scales folded into {names}"))
        return notes

    def _fold(
        self, graph: fx.GraphModule, norm: fx.Node, linears: list[fx.Node], seen: ChannelRange, bits: int
    ) -> tuple[Tensor, Tensor]:
        levels = (1 << bits) - 1
        low, high = seen.low.double().clamp(max=0), seen.high.double().clamp(min=0)
        extent = high - low
        floor = max(float(extent.mean()) * 1e-3, 1e-12)  # a dead channel gets a small scale
        scale = extent.clamp(min=floor) / levels  # s_c [C]
        zero = (-low / scale).round()  # z_c [C]
        middle = float(1 << (bits - 1))
        common = zero.mean().round() if self._options.zero_point == "integer" else middle
        ratio = scale / scale.mean()  # r_c [C]
        shift = scale.mean() * (zero - common)  # s (z_c − z) [C]
        update_parameter(graph, norm.args[2], lambda gamma: gamma / ratio)
        update_parameter(graph, norm.args[3], lambda beta: beta / ratio + shift)
        for linear in linears:
            weight = tensor_of(graph, str(constant_name(linear.args[1]))).double()
            correction = weight @ (scale * (zero - common))  # W @ s_c (z_c − z) [O]
            update_parameter(graph, linear.args[2], lambda bias, c=correction: bias - c)  # type: ignore[misc]
            update_parameter(graph, linear.args[1], lambda w: w * ratio)
        return ratio, shift


def _keeps_channels(node: fx.Node) -> bool:
    """Whether a shape-only operator leaves the last axis whole and in place."""
    if not is_call(node, *SHAPE_ONLY):
        return False
    before, after = shape_of(node.args[0]), shape_of(node)
    if not before or not after or str(before[-1]) != str(after[-1]):
        return False
    arguments: list[Any] = [*node.args, None, None]
    last = len(before) - 1
    if is_call(node, aten.permute.default):
        return bool(arguments[1][-1] % len(before) == last)
    if is_call(node, aten.transpose.int):
        moved = arguments[1:3]
    elif is_call(node, aten.roll.default):
        moved = arguments[2] or [last]  # without dimensions it rolls the flattened tensor
    elif is_call(node, aten.slice.Tensor, aten.select.int):
        moved = [arguments[1] or 0]
    else:
        return True
    return all(dim % len(before) != last for dim in moved)


def _linear_readers(norm: fx.Node) -> list[fx.Node]:
    """The linear layers behind ``norm``, empty unless they are its only readers."""
    found: list[fx.Node] = []
    frontier = list(norm.users)
    while frontier:
        node = frontier.pop()
        if is_call(node, aten.linear.default):
            found.append(node)
        elif _keeps_channels(node):
            frontier.extend(node.users)
        else:
            return []
    return sorted(found)


def _reason_against(graph: fx.GraphModule, norm: fx.Node, linears: list[fx.Node]) -> str | None:
    if not linears:
        return "something other than linear layers reads it"
    if len(norm.args[1]) != 1:  # type: ignore[arg-type]
        return "it normalizes more than the last axis"
    for node, parameters in ((norm, norm.args[2:4]), *((linear, linear.args[1:3]) for linear in linears)):
        if len(parameters) != 2 or None in map(constant_name, parameters):
            return f"'{module_of(node)}' has no weight or no bias to fold into"
        for parameter in parameters:
            if not is_private(graph, parameter):
                return f"'{constant_name(parameter)}' is shared with another layer"
    return None
