"""AdaRound: learn for every weight whether to round it down or up.

With s and z the grid's scale and zero point, V one number per weight and h = clip(1.2 σ(V) − 0.1, 0, 1)::

    Ŵ = s · (clip(⌊W / s⌋ + h + z, qmin, qmax) − z)
    minimise  Σ ‖y − Ŵ x̂ − b‖² / unit + λ Σ (1 − |2h − 1|^β),      then h is rounded to 0 or 1

over the outputs y of the float layer on float inputs and the inputs x̂ that the quantized layer really reads.
``unit`` is the squared output error that plain rounding adds, per weight, so that λ means the same in every
layer. λ is zero for the first fifth of the steps; then β falls from 20 to 2 on a straight line and presses h
to its ends. V starts where Ŵ = W. Adam.

The source draws batches of tokens; here the error of all of them and its gradient follow exactly from their
second moments, at the price of one product with Σ x̂ x̂ᵀ per step. So nothing is random. The result is kept if
its output error on images held out is below that of plain rounding.

Source: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", equations 21 to 25
(the layer's activation function is left out, so that the error is quadratic).
"""

import torch
from pydantic import Field
from torch import Tensor

from quant.methods.registry import MethodNote, MethodOptions, WeightsOnly, register_method
from quant.qparams import QParams
from quant.tuning.eligible import why_not
from quant.tuning.gram import spread
from quant.tuning.layer import Layer
from quant.tuning.moments import Moments, layer_moments

__all__ = ["AdaRound", "AdaRoundOptions", "adaround"]

NAME = "adaround"
_ZETA, _GAMMA = 1.1, -0.1  # σ is stretched to this range, so that 0 and 1 are reached
_BETA_FIRST, _BETA_LAST = 20.0, 2.0


class AdaRoundOptions(MethodOptions):
    """Options.

    Attributes:
        iterations: steps of Adam for each layer.
        learning_rate: of V.
        strength: λ.
        warm_up: share of the steps without the pressure to 0 or 1.
        up_to_bits: weights of more bits are left alone.
    """

    iterations: int = Field(default=300, ge=1)
    learning_rate: float = Field(default=0.1, gt=0.0)
    strength: float = Field(default=10.0, gt=0.0)
    warm_up: float = Field(default=0.2, ge=0.0, lt=1.0)
    up_to_bits: int = Field(default=6, ge=2, le=8)


@register_method(NAME, AdaRoundOptions)
class AdaRound(WeightsOnly):
    """The method, see the module's text."""

    def __init__(self, options: AdaRoundOptions) -> None:
        self._options = options

    def tune_layer(self, layer: Layer) -> MethodNote:
        """Round the layer's weight."""
        reason = why_not(layer, self._options.up_to_bits)
        if reason is not None:
            return MethodNote(NAME, layer.name, False, reason)
        weight, grid = layer.weight, layer.grid
        learned, held_out = layer_moments(layer)
        rounded = adaround(weight, grid, learned, self._options)

        def error(value: Tensor) -> float:
            return held_out.error((value.double() - weight.double()).reshape(*held_out.cross.shape[:2], -1))

        before, after = error(layer.quantized_weight), error(rounded)
        if not after < before:
            return MethodNote(NAME, layer.name, False, "no gain over plain rounding on the images held out")
        layer.set_weight(rounded, grid)
        text = f"held-out output error {after / before:.3f} of plain rounding's"
        return MethodNote(NAME, layer.name, True, text)


def adaround(weight: Tensor, grid: QParams, moments: Moments, options: AdaRoundOptions) -> Tensor:
    """The weight on its grid.

    Args:
        weight: [O, K], or [O, I / groups, kh, kw].
        grid: scale and zero point of the weight.
        moments: of the tokens to learn from.
        options: the schedule.

    Returns:
        Dequantized codes, float32, the shape of ``weight``.
    """
    groups, depth = moments.gram.shape[0], moments.gram.shape[1] - 1
    shape = (groups, -1, depth)
    scale, zero = (spread(t, weight, grid).float().reshape(shape) for t in (grid.scale, grid.zero_point))
    w = weight.float().reshape(shape)
    floor = torch.floor(w / scale)
    nearest = scale * ((torch.round(w / scale) + zero).clamp(grid.qmin, grid.qmax) - zero)
    loss = (((nearest - w).double() @ moments.gram[:, :depth, :depth]) * (nearest - w)).sum()
    unit = float(loss) / w.numel()
    if unit == 0.0:
        return nearest.reshape(weight.shape)
    gram, cross = ((t / unit).float() for t in (moments.gram[:, :depth, :depth], moments.cross[..., :depth]))

    def on_grid(h: Tensor) -> Tensor:
        return scale * ((floor + h + zero).clamp(grid.qmin, grid.qmax) - zero)

    v = torch.logit((w / scale - floor - _GAMMA) / (_ZETA - _GAMMA)).requires_grad_()
    adam = torch.optim.Adam([v], lr=options.learning_rate)
    first = round(options.warm_up * options.iterations)
    for step in range(options.iterations):
        h = _soft(v)
        change = on_grid(h) - w
        with torch.no_grad():
            slope = 2.0 * (change @ gram - cross)
        loss = (change * slope).sum()  # its gradient is that of the squared error, as slope is constant
        if step >= first:
            done = (step - first) / max(1, options.iterations - first)
            beta = _BETA_FIRST + (_BETA_LAST - _BETA_FIRST) * done
            loss = loss + options.strength * (1.0 - (2.0 * h - 1.0).abs().pow(beta)).sum()
        (v.grad,) = torch.autograd.grad(loss, [v])
        adam.step()
    with torch.no_grad():
        return on_grid((_soft(v) >= 0.5).float()).reshape(weight.shape)


def _soft(v: Tensor) -> Tensor:
    return (torch.sigmoid(v) * (_ZETA - _GAMMA) + _GAMMA).clamp(0.0, 1.0)  # h
