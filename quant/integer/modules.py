"""Graph layers that compute on integers while the fake-quant layers around them quantize, else in float."""

from typing import Any

import torch
from torch import Tensor, nn

from quant.fake_quantize import FakeQuantize, FakeQuantState
from quant.integer.layer_norm import LayerNormConstants, integer_layer_norm, layer_norm_constants
from quant.integer.softmax import (
    SoftmaxConstants,
    log_int_softmax,
    powers_of_two,
    shift_matmul,
    softmax_constants,
)

__all__ = ["IntegerLayer", "IntegerLayerNorm", "LogIntSoftmax", "ShiftMatMul"]


class IntegerLayer(nn.Module):
    """A layer whose formats are those of fake-quant layers, which it does not own."""

    def __init__(self, name: str, *quantizers: FakeQuantize) -> None:
        super().__init__()
        self.name = name
        self._quantizers = quantizers  # in a tuple, so that they are no submodules

    @property
    def quantizing(self) -> bool:
        """Whether the formats around it are in force."""
        return all(q.state is FakeQuantState.QUANTIZING for q in self._quantizers)


class IntegerLayerNorm(IntegerLayer):
    """LayerNorm over the last axis (:mod:`quant.integer.layer_norm`)."""

    def __init__(
        self, name: str, eps: float, multiplier_bits: int, source: FakeQuantize, result: FakeQuantize
    ) -> None:
        """Take the fake-quant layers that write what it reads, and read what it writes."""
        super().__init__(name, source, result)
        self.eps = eps
        self.multiplier_bits = multiplier_bits

    def constants(self, gamma: Tensor, beta: Tensor) -> LayerNormConstants:
        """What follows from the formats in force."""
        source, result = (q.qparams for q in self._quantizers)
        return layer_norm_constants(
            source.scale, gamma, beta, self.eps, result.scale, self.multiplier_bits, self.name
        )

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """``x`` [..., C] normalized; the gradient is that of the float operator."""
        if not self.quantizing:
            return nn.functional.layer_norm(x, gamma.shape, gamma, beta, self.eps)
        with torch.no_grad():
            constants = self.constants(gamma, beta)
            result = integer_layer_norm(x, constants).float() * constants.output_scale
        if not _wants_gradient(x, gamma, beta):
            return result
        exact = nn.functional.layer_norm(x, gamma.shape, gamma, beta, self.eps)
        return exact + (result - exact).detach()


class LogIntSoftmax(IntegerLayer):
    """Softmax over the last axis (:mod:`quant.integer.softmax`); its values are powers of two."""

    def __init__(self, name: str, bits: int, fraction_bits: int, source: FakeQuantize) -> None:
        """Take the fake-quant layer of the scores, whose codes are shifted left by ``fraction_bits``."""
        super().__init__(name, source)
        self.bits = bits
        self.fraction_bits = fraction_bits
        self.source = (source,)

    @property
    def constants(self) -> SoftmaxConstants:
        """What follows from the format in force."""
        (source,) = self._quantizers
        scale = float(source.qparams.scale) / 2.0**self.fraction_bits
        return softmax_constants(scale, self.bits, self.name)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., n] to probabilities; the gradient is that of the float operator."""
        if not self.quantizing:
            return torch.softmax(x, -1)
        with torch.no_grad():
            result = powers_of_two(log_int_softmax(x, self.constants), self.bits)
        if not _wants_gradient(x):
            return result
        exact = torch.softmax(x, -1)
        return exact + (result - exact).detach()


class ShiftMatMul(IntegerLayer):
    """The product of an integer softmax and the codes of V, exact before its one final rounding."""

    def __init__(self, name: str, softmax: LogIntSoftmax, values: FakeQuantize) -> None:
        """Take the softmax in front of it and the fake-quant layer of V."""
        super().__init__(name, *softmax.source, values)

    @property
    def scale(self) -> Tensor:
        """V's scale, float32 []."""
        return self._quantizers[1].qparams.scale

    def forward(self, powers: Tensor, values: Tensor) -> Tensor:
        """[..., m, n] times [..., n, d]."""
        if not self.quantizing or _wants_gradient(powers, values):
            return torch.matmul(powers, values)
        sums = shift_matmul(powers, torch.round(values / self.scale).to(torch.int64))
        return (sums * self.scale.double()).float()


def _wants_gradient(*values: Any) -> bool:
    return torch.is_grad_enabled() and any(value.requires_grad for value in values)
