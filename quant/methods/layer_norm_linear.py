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
from typing import Literal

import torch
from torch import Tensor, fx

from quant.graph.layer_norm_readers import linear_readers, reason_against_folding
from quant.graph.nodes import is_call, layer_name, module_of
from quant.methods.norm_fold import fold_into_norm, tell_fold
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
            linears = linear_readers(norm)
            reason = reason_against_folding(graph, norm, linears)
            specs = [recipe.spec_for("linear.input", layer_name(n)) for n in linears]
            spec = specs[0] if specs and all(s == specs[0] for s in specs) else None
            if reason is None and spec is None:
                reason = "the linear layers behind it are not quantized alike"
            if reason is not None or spec is None:
                notes.append(MethodNote(NAME, layer, False, reason or ""))
                continue
            ratio, shift = self._common_range(seen[norm], spec.bits)
            fold_into_norm(graph, norm, linears, ratio, shift)
            tell_fold(seen, norm, ratio, shift)
            names = ", ".join(layer_name(n) for n in linears)
            notes.append(MethodNote(NAME, layer, True, f"channel scales folded into {names}"))
        return notes

    def _common_range(self, seen: ChannelRange, bits: int) -> tuple[Tensor, Tensor]:
        levels = (1 << bits) - 1
        low, high = seen.low.double().clamp(max=0), seen.high.double().clamp(min=0)
        extent = high - low
        floor = max(float(extent.mean()) * 1e-3, 1e-12)  # a dead channel gets a small scale
        scale = extent.clamp(min=floor) / levels  # s_c [C]
        zero = (-low / scale).round()  # z_c [C]
        middle = float(1 << (bits - 1))
        common = zero.mean().round() if self._options.zero_point == "integer" else middle
        return scale / scale.mean(), scale.mean() * (zero - common)  # r_c and s (z_c − z), [C]
