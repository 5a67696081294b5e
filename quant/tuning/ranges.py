"""Candidate ranges of an activation quantizer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from quant.fake_quantize import FakeQuantize
from quant.kernels import fake_quantize
from quant.qparams import qparams_from_range

__all__ = ["Range", "factors", "has_one_range", "input_bounds", "quantize_in", "scaled"]

Range = tuple[Tensor, Tensor]
"""Low and high, scalars, float64."""


def factors(low: float, high: float, count: int) -> list[float]:
    """``count`` factors, evenly spaced from ``low`` to ``high``, and 1.

    >>> factors(0.5, 1.25, 4)
    [1.0, 0.5, 0.75, 1.25]
    """
    spread = [float(f) for f in torch.linspace(low, high, count, dtype=torch.float64)]
    return [1.0, *(f for f in spread if abs(f - 1.0) > 1e-9)]


def has_one_range(quantizer: FakeQuantize | None) -> bool:
    """Whether there is a quantizer with a single uniform scale, which a range describes."""
    if quantizer is None:
        return False
    return quantizer.spec.granularity == "per_tensor" and quantizer.spec.scheme == "uniform"


def scaled(base: Range, by: Sequence[float]) -> list[Range]:
    """``base`` with both ends multiplied."""
    low, high = (end.double() for end in base)
    return [(low * f, high * f) for f in by]


def quantize_in(x: Tensor, bounds: Range, quantizer: FakeQuantize) -> Tensor:
    """``x`` as the quantizer would return it with this range."""
    return fake_quantize(x, qparams_from_range(*bounds, quantizer.spec, quantizer.name), quantizer.name)


def input_bounds(quantizer: FakeQuantize) -> Range:
    """The smallest and the largest value that the input of a layer takes on the calibration images.

    Channels that something else carries are left out.
    """
    assert quantizer.channels is not None
    low, high = quantizer.channels.range()
    kept = torch.ones(len(low), dtype=torch.bool)
    kept[list(quantizer.ignored)] = False
    return low[kept].min(), high[kept].max()
