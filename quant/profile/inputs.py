"""What a layer reads, and what its input quantizer does to it."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from quant.fake_quantize import FakeQuantize
from quant.kernels import fake_quantize
from quant.profile.figures import InputProfile
from quant.profile.moments import energy

__all__ = ["InputCollector"]

_WIDE = 2**24  # codes up to here are exact in float32


class InputCollector:
    """Collects an :class:`InputProfile`."""

    def __init__(self, source: str, axis: int, left_out: tuple[int, ...]) -> None:
        """Begin.

        Args:
            source: what computes the input.
            axis: its channel axis.
            left_out: channels that do not count.
        """
        self._source, self._axis, self._left_out = source, axis, left_out
        self._bits: int | None = None
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        self._count = self._clipped = 0
        self._sum = self._squares = 0.0
        self._noise = self._clipping_noise = 0.0

    def update(self, x: Tensor, quantized: Tensor, quantizer: FakeQuantize | None) -> None:
        """Add one batch.

        Args:
            x: the float input.
            quantized: behind its quantizer.
            quantizer: None where the input stays float.
        """
        rows = self._counted(x)
        self._see(rows)
        if quantizer is None:
            return
        self._bits = quantizer.spec.bits
        qparams = quantizer.qparams
        error = self._counted(quantized) - rows
        self._noise += energy(error)
        if qparams.scheme == "uniform":
            unlimited = fake_quantize(x, replace(qparams, qmin=-_WIDE, qmax=_WIDE), quantizer.name)
            clipped = error[self._counted(quantized != unlimited)]
            self._clipped += clipped.numel()
            self._clipping_noise += energy(clipped)

    def result(self) -> InputProfile:
        """The figures so far."""
        assert self._low is not None
        assert self._high is not None
        peaks = torch.maximum(-self._low, self._high)
        median = float(peaks.median())
        mean = self._sum / self._count
        sigma = math.sqrt(max(0.0, self._squares / self._count - mean**2))
        width = float(self._high.max() - self._low.min())
        return InputProfile(
            source=self._source,
            bits=self._bits,
            channel_ratio=float(peaks.max()) / median if median else math.inf,
            range_sigmas=width / sigma if sigma else 0.0,
            clipped=self._clipped / self._count,
            clipping_share=self._clipping_noise / self._noise if self._noise else 0.0,
        )

    def _counted(self, x: Tensor) -> Tensor:
        """``x`` as rows [n, C] without the channels left out."""
        rows = x.movedim(self._axis, -1).reshape(-1, x.shape[self._axis])
        if not self._left_out:
            return rows
        kept = sorted(set(range(rows.shape[1])) - set(self._left_out))
        return rows[:, kept]

    def _see(self, rows: Tensor) -> None:
        low, high = rows.amin(0), rows.amax(0)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)
        self._count += rows.numel()
        self._sum += float(rows.sum(dtype=torch.float64))
        self._squares += energy(rows)
