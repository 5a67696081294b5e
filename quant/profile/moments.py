"""Sums over pairs of tensors, from which the figures of a comparison follow."""

import math
from collections.abc import Iterator

from torch import Tensor

__all__ = ["PairMoments", "decibels", "energy", "pieces"]

_PIECE = 2**14  # fits a core's cache with a few copies; too short for PyTorch to wake its threads each time


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The elements of equally large tensors in float64, a cache-sized run of each at a time."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    for start in range(0, flat[0].numel(), _PIECE):
        yield tuple(values[start : start + _PIECE].double() for values in flat)


def energy(x: Tensor) -> float:
    """``Σ x²``, in float64."""
    return math.fsum(float((piece * piece).sum()) for (piece,) in pieces(x))


def decibels(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)``, in dB; ``inf`` without noise, ``-inf`` for noise without a signal."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


class PairMoments:
    """Running sums, in float64, over the elements of a float tensor x and its quantized counterpart y.

    Attributes:
        count: elements seen, n.
        signal: Σ x².
        noise: Σ (y − x)².
    """

    def __init__(self) -> None:
        self.count = 0
        self.signal = self.noise = 0.0
        self._sum_x = self._sum_y = self._yy = self._xy = 0.0

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add two float64 vectors of equal length."""
        error = y - x
        self.count += x.numel()
        self.signal += float((x * x).sum())
        self.noise += float((error * error).sum())
        self._sum_x += float(x.sum())
        self._sum_y += float(y.sum())
        self._yy += float((y * y).sum())
        self._xy += float((x * y).sum())

    @property
    def qsnr_db(self) -> float:
        """Quantization signal to noise ratio, ``10 log10(Σ x² / Σ (y − x)²)``, in dB."""
        return decibels(self.signal, self.noise)

    @property
    def mse(self) -> float:
        """Mean squared error, ``Σ (y − x)² / n``."""
        return self.noise / self.count

    @property
    def cosine(self) -> float:
        """Cosine similarity of all elements as one vector, ``Σ xy / √(Σ x² Σ y²)``; 1 where both are zero."""
        product = self.signal * self._yy
        if product == 0:
            return 1.0 if self.signal == self._yy else 0.0
        return max(-1.0, min(1.0, self._xy / math.sqrt(product)))

    @property
    def float_spread(self) -> tuple[float, float]:
        """Mean and standard deviation (divided by n) of x."""
        return _spread(self._sum_x, self.signal, self.count)

    @property
    def quantized_spread(self) -> tuple[float, float]:
        """Mean and standard deviation (divided by n) of y."""
        return _spread(self._sum_y, self._yy, self.count)


def _spread(total: float, squares: float, count: int) -> tuple[float, float]:
    mean = total / count
    return mean, math.sqrt(max(0.0, squares / count - mean**2))
