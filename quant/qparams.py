"""Scale and zero point: the one function that turns a range into them."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from quant.errors import BadInput
from quant.spec import FP8_LARGEST, QuantSpec, Scheme

__all__ = ["MIN_SCALE", "QParams", "qparams_from_range"]

MIN_SCALE = 2.0**-40
"""The smallest scale. Its reciprocal is finite, the product of two (the scale of an int32 bias) is a normal
float32, and values up to 2^22 still give codes that fit the int64 arithmetic of PyTorch's operators.

Float16's smallest normal number (6.1e-5) would be too large a floor: scales are stored as float32 in ONNX and
TensorRT, and a weight row of amplitude 0.005 has the legitimate 8-bit scale 3.9e-5.
"""

WIDE = 1 << 15
"""Half the number of codes of a wide channel."""


@dataclass(frozen=True, eq=False)
class QParams:
    """Everything needed to quantize a tensor of a known layout.

    Attributes:
        scale: float32, > 0; its shape is given by :class:`quant.spec.QuantSpec`.
        zero_point: int32, the shape of ``scale``, within ``[qmin, qmax]``.
        qmin: lowest code.
        qmax: highest code.
        axis: channel axis of one scale per channel, else None.
        group_size: length of the groups along the last axis, else None.
        scheme: ``uniform``, ``log2`` or ``fp8_e4m3``.
        wide: channels along ``axis`` whose codes have 16 bits, from ``zero_point - 2^15`` on, instead of
            ``qmin`` to ``qmax``; for outliers of a transformer's stream.
    """

    scale: Tensor
    zero_point: Tensor
    qmin: int
    qmax: int
    axis: int | None = None
    group_size: int | None = None
    scheme: Scheme = "uniform"
    wide: tuple[int, ...] = ()

    def limits(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest code, int32, of the shape of ``scale``."""
        lowest, highest = (torch.full_like(self.zero_point, limit) for limit in (self.qmin, self.qmax))
        for channel in self.wide:
            lowest[channel] = self.zero_point[channel] - WIDE
            highest[channel] = self.zero_point[channel] + WIDE - 1
        return lowest, highest

    def to(self, device: torch.device | str) -> Self:
        """The same parameters on another device."""
        return replace(self, scale=self.scale.to(device), zero_point=self.zero_point.to(device))


def qparams_from_range(low: Tensor, high: Tensor, spec: QuantSpec, name: str = "tensor") -> QParams:
    """Scale and zero point of a range of values.

    The range is first widened to contain 0, so that zero (padding, ReLU, a masked score) is exact.

    - affine: ``scale = (high - low) / (qmax - qmin)``, ``zero_point = clamp(round(qmin - low / scale))``
      (ONNX DynamicQuantizeLinear's formula);
    - symmetric: ``scale = max(-low, high) / (2^(bits-1) - 1)``, zero point fixed;
    - log2: ``scale = high``, the value of code 0;
    - fp8_e4m3: ``scale = max(-low, high) / 448``, zero point 0.

    A dead channel (range 0) still needs a scale: TensorRT refuses 0, and 0 * inf is NaN elsewhere. Every
    scale represents its zeros, so it takes the largest scale of its siblings: a tiny one would make the
    int32 bias of that channel (step: input scale x weight scale) overflow. Where all are dead the range
    counts as 1.

    >>> q = qparams_from_range(torch.tensor(-1.0), torch.tensor(4.1), QuantSpec.activation(8))
    >>> round(q.scale.item(), 6), q.zero_point.item()
    (0.02, 50)
    >>> q = qparams_from_range(torch.tensor([-2.0, 0.0]), torch.tensor([12.7, 0.0]), QuantSpec.weight(8))
    >>> [round(s, 6) for s in q.scale.tolist()], q.zero_point.tolist(), (q.qmin, q.qmax)
    ([0.1, 0.1], [0, 0], (-127, 127))

    Args:
        low: smallest value of each scale, any float type; its shape becomes the scales' shape.
        high: largest value, the shape of ``low``.
        spec: the format.
        name: the tensor's name, for messages.

    Raises:
        BadInput: a bound is NaN or infinite, the bounds are swapped, or ``log2`` meets negative values.
    """
    low, high = low.detach().double(), high.detach().double()
    if not bool((torch.isfinite(low) & torch.isfinite(high)).all()):
        raise BadInput(f"the range of '{name}' holds NaN or infinity; quantization needs finite bounds")
    if bool((low > high).any()):
        raise BadInput(f"the range of '{name}' has a lower bound above its upper bound")
    if spec.scheme == "log2" and bool((low < 0).any()):
        raise BadInput(
            f"'{name}' holds values down to {low.min().item():.4g}, and scheme 'log2' needs values >= 0; "
            "use it behind a softmax, or take scheme 'uniform'"
        )
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    if spec.scheme == "log2":
        extent, steps = high, 1
    elif spec.scheme == "fp8_e4m3":
        extent, steps = torch.maximum(-low, high), FP8_LARGEST
    elif spec.symmetric:
        extent, steps = torch.maximum(-low, high), (1 << (spec.bits - 1)) - 1
    else:
        extent, steps = high - low, spec.qmax - spec.qmin
    largest = extent.max()
    extent = torch.where(extent > 0, extent, torch.where(largest > 0, largest, torch.ones_like(largest)))
    scale = (extent / steps).clamp(min=MIN_SCALE).float()
    if spec.scheme == "log2":
        zero_point = torch.zeros_like(scale)
    elif spec.symmetric:
        zero_point = torch.full_like(scale, spec.symmetric_zero_point)
    else:
        zero_point = torch.round(spec.qmin - low / scale.double()).clamp(spec.qmin, spec.qmax)
    return QParams(
        scale=scale,
        zero_point=zero_point.to(torch.int32),
        qmin=spec.qmin,
        qmax=spec.qmax,
        axis=spec.axis if spec.granularity == "per_channel" else None,
        group_size=spec.group_size,
        scheme=spec.scheme,
    )
