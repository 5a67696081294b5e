"""Fake-quantization whose scale is learned."""

from typing import Any

import torch
from torch import Tensor

from quant.kernels import fake_quantize
from quant.qparams import QParams

__all__ = ["learned_fake_quantize"]


def learned_fake_quantize(x: Tensor, qparams: QParams, name: str = "tensor") -> Tensor:
    """:func:`quant.kernels.fake_quantize` with a gradient for one scale per tensor, too.

    With y = s (q − z) the straight-through gradients are, inside the range, dy/dx = 1 and
    dy/ds = (y − x) / s, and outside dy/dx = 0 and dy/ds = y / s.

    Source: LSQ (Esser et al. 2020, equation 3), with a fixed zero point.

    Args:
        x: any shape, float32.
        qparams: one scale that requires a gradient.
        name: the tensor's name, for messages.
    """
    result: Tensor = _Learned.apply(x, qparams.scale, qparams, name)
    return result


class _Learned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, qparams: QParams, name: str) -> Tensor:
        y = fake_quantize(x, qparams, name)
        ctx.qparams = qparams
        ctx.save_for_backward(x, y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, y, scale = ctx.saved_tensors
        low, high = (
            scale * (end - ctx.qparams.zero_point + half)
            for end, half in ((ctx.qparams.qmin, -0.5), (ctx.qparams.qmax, 0.5))
        )
        passed = gradient * (x >= low).logical_and_(x <= high)
        residue = (gradient * y).sum() - (passed * x).sum()
        return passed, residue / scale, None, None
