"""Ridge compensation: let a layer's float weight make up for the rounding of its inputs.

With A = [x̂, 1] the inputs that the quantized layer reads, one row per token, and Y = y − A [W, b]ᵀ what its
float weight lacks there of the float reference's output y::

    [ΔW, Δb]ᵀ = (AᵀA + λI)⁻¹ Aᵀ Y,      λ = strength · mean of the diagonal of x̂ᵀx̂

The result is kept if it lowers the output error of the rounded layer on images held out. Where the layer has
no bias, A = x̂. The weight gets a new grid from its observer, so this stands in front of methods that choose
grids or round.

Source: Zhong et al. 2024, "ERQ: Error Reduction for Post-Training Quantization of Vision Transformers",
section 3.2 (activation quantization error reduction).
"""

import torch
from pydantic import Field
from torch import Tensor

from quant.kernels import fake_quantize
from quant.methods.registry import MethodNote, MethodOptions, WeightsOnly, register_method
from quant.observers import make_observer
from quant.placement import Site
from quant.qparams import QParams, qparams_from_range
from quant.tuning.layer import Layer
from quant.tuning.moments import Moments, layer_moments

__all__ = ["Ridge", "RidgeOptions", "ridge_change"]

NAME = "ridge"


class RidgeOptions(MethodOptions):
    """Options.

    Attributes:
        strength: λ as a share of the inputs' mean square.
        tokens_per_input: layers with fewer tokens per input, such as a head behind pooling, are left alone.
    """

    strength: float = Field(default=0.1, gt=0.0)
    tokens_per_input: float = Field(default=4.0, ge=0.0)


@register_method(NAME, RidgeOptions)
class Ridge(WeightsOnly):
    """The method, see the module's text."""

    def __init__(self, options: RidgeOptions) -> None:
        self._options = options

    def tune_layer(self, layer: Layer) -> MethodNote:
        """Change the layer's weight and bias."""
        weight, bias = layer.weight, layer.bias
        learned, held_out = layer_moments(layer)
        depth = learned.gram.shape[-1] - 1
        if learned.tokens < self._options.tokens_per_input * depth:
            text = f"{learned.tokens} tokens are too few for {depth} inputs"
            return MethodNote(NAME, layer.name, False, text)
        change = ridge_change(learned, self._options.strength, bias is not None)
        moved = weight + change[..., :depth].reshape(weight.shape).float()
        if layer.clipped_units:
            moved[:, list(layer.clipped_units)] = 0.0
        rounded = fake_quantize(moved, _observed_grid(moved, layer.weight_site), layer.name)

        def error(value: Tensor, shift: Tensor | None) -> float:
            step = (value.double() - weight.double()).reshape(*change.shape[:2], depth)
            return held_out.error(step if shift is None else torch.cat([step, shift], dim=-1))

        shift = None if bias is None else change[..., depth:]
        before, after = error(layer.quantized_weight, None), error(rounded, shift)
        if not after < before:
            return MethodNote(NAME, layer.name, False, "no gain on the images held out")
        layer.set_weight(moved)
        if bias is not None:
            layer.set_bias(bias + change[..., depth].flatten().float())
        return MethodNote(NAME, layer.name, True, f"held-out output error {after / before:.3f} of before")


def ridge_change(moments: Moments, strength: float, with_bias: bool) -> Tensor:
    """The change of weight and bias.

    Args:
        moments: of the tokens to learn from.
        strength: λ as a share of the mean square of the inputs.
        with_bias: whether the layer has one.

    Returns:
        [groups, O / groups, K + 1], float64; K columns without a bias.
    """
    depth = moments.gram.shape[-1] - 1
    width = depth + int(with_bias)
    gram = moments.gram[:, :width, :width].clone()
    inputs = gram.diagonal(dim1=1, dim2=2)[:, :depth]
    penalty = strength * inputs.mean(dim=1).clamp(min=1e-12)  # λ [groups]
    gram.diagonal(dim1=1, dim2=2).add_(penalty[:, None])
    found: Tensor = torch.linalg.solve(gram, moments.cross[..., :width].transpose(1, 2))
    return found.transpose(1, 2)


def _observed_grid(weight: Tensor, site: Site) -> QParams:
    """The grid that the site's observer chooses for a weight."""
    observer = make_observer(site.spec, site.name)
    observer.update(weight)
    return qparams_from_range(*observer.range(site.spec), site.spec, site.name)
