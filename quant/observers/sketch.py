"""A mergeable summary of a stream of values, for the observers that need more than bounds."""

from collections.abc import Mapping

import torch
from torch import Tensor

from quant.layout import rows
from quant.observers.base import Observer
from quant.observers.cells import Cells

__all__ = ["Sketch", "SketchObserver"]

_MANTISSA_BITS = 8
_MIN_EXPONENT, _OCTAVES = -40, 64
_MAX_COUNTERS = 2**22
_CHUNK = 2**18


class Sketch:
    """Counts per row how often each value came, exactly at first and then in bins of constant relative width.

    - While the values need no more memory than the counters would, they are kept as they are. So a
      weight, seen once, is summarized without any loss.
    - Beyond that they are counted by the top bits of their float32 pattern: sign, exponent and ``m`` bits of
      the mantissa. No range must be known beforehand, and a bin is at most ``2^-m`` of its values wide.
      Exponents cover ``[2^-40, 2^24)``; anything smaller shares the first bin, anything larger the last.
      ``m`` is 8 (32768 counters, 256 KiB) and less for many rows, so that R rows have at most 2^22
      counters (5 bits for 768 channels).

    Counts are integers, bounds are exact, and the step from one form to the other depends on the number
    of values only. So the summary does not depend on batch sizes or order.

    Attributes:
        low: smallest value of each row ``[R]``, exact.
        high: largest value of each row ``[R]``, exact.
        values: the values so far, chunks ``[R, n]``, while ``counts`` is None.
        counts: int64 ``[R, bins]``.
    """

    def __init__(self, row_count: int) -> None:
        bits = (_MAX_COUNTERS // (2 * _OCTAVES * row_count)).bit_length() - 1
        self.mantissa_bits = max(0, min(_MANTISSA_BITS, bits))
        self.half = _OCTAVES << self.mantissa_bits  # bins of one sign
        self.row_count = row_count
        self.low = torch.full((row_count,), torch.inf)
        self.high = torch.full((row_count,), -torch.inf)
        self.values: list[Tensor] = []
        self.counts: Tensor | None = None

    def add(self, x: Tensor, low: Tensor, high: Tensor) -> None:
        """Take in finite float32 values ``[R, n]`` with their bounds ``[R]``."""
        self.low = torch.minimum(self.low.to(low.device), low)
        self.high = torch.maximum(self.high.to(high.device), high)
        if self.counts is None:
            self.values.append(x + 0.0)  # a copy, in which -0.0 is 0.0
            counters = self.row_count * 2 * self.half
            if 4 * sum(v.numel() for v in self.values) <= 8 * counters:
                return
            kept, self.values = self.values, []
            self.counts = torch.zeros(self.row_count, 2 * self.half, dtype=torch.int64, device=x.device)
            for chunk in kept:
                self._count(chunk)
        else:
            self._count(x)

    def cells(self) -> Cells:
        """The distribution of each row."""
        if self.counts is None:
            values = torch.cat([v.to(self.low.device) for v in self.values], dim=1)
            values = torch.sort(values, dim=1).values.double()
            return Cells(values, values, torch.ones_like(values))
        occupied = torch.nonzero((self.counts > 0).any(dim=0)).squeeze(1)
        bins = self._bounds().to(occupied.device)[:, occupied]
        order = torch.argsort(bins[0])
        low, high = self.low.double().unsqueeze(1), self.high.double().unsqueeze(1)
        lower, upper = (b.unsqueeze(0).clamp(low, high) for b in bins[:, order])
        return Cells(lower, upper, self.counts[:, occupied[order]].double())

    def tensors(self) -> dict[str, Tensor]:
        """Bounds, and the sorted values or the occupied bins."""
        bounds = {"low": self.low, "high": self.high}
        if self.counts is None:
            return bounds | {"values": self.cells().low.float()}
        flat = self.counts.flatten()
        bins = torch.nonzero(flat).squeeze(1)
        return bounds | {"bins": bins, "counts": flat[bins]}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`tensors`."""
        self.low, self.high = state["low"], state["high"]
        self.values, self.counts = [], None
        if "values" in state:
            self.values = [state["values"]]
            return
        flat = torch.zeros(self.row_count * 2 * self.half, dtype=torch.int64)
        flat[state["bins"]] = state["counts"]
        self.counts = flat.reshape(self.row_count, 2 * self.half)

    def _count(self, x: Tensor) -> None:
        assert self.counts is not None
        size = self.counts.numel()
        total = self.counts.flatten().to(x.device)
        first_bin = torch.arange(self.row_count, dtype=torch.int32, device=x.device) * (2 * self.half)
        shift = 23 - self.mantissa_bits
        base = (127 + _MIN_EXPONENT) << self.mantissa_bits
        patterns = x.contiguous().view(torch.int32)
        # Pieces that stay in the cache make this three times as fast.
        for piece in torch.split(patterns, _CHUNK if self.row_count == 1 else patterns.shape[1], dim=1):
            bins = (piece >> shift).bitwise_and_((256 << self.mantissa_bits) - 1)
            bins = bins.sub_(base).clamp_(0, self.half - 1)
            bins += (piece >> 31).bitwise_and_(self.half)  # negative values have the upper half
            bins += first_bin.unsqueeze(1)
            total = total + torch.bincount(bins.flatten(), minlength=size)
        self.counts = total.reshape(self.row_count, -1)

    def _bounds(self) -> Tensor:
        """Lower and upper end of each bin, float64 ``[2, bins]``; each sign's last reaches to infinity."""
        pattern = torch.arange(self.half + 1, dtype=torch.int32) + (
            (127 + _MIN_EXPONENT) << self.mantissa_bits
        )
        edges = (pattern << (23 - self.mantissa_bits)).view(torch.float32).double()
        edges[0], edges[-1] = 0.0, torch.inf
        inner, outer = edges[:-1], edges[1:]
        return torch.stack([torch.cat([inner, -outer]), torch.cat([outer, -inner])])


class SketchObserver(Observer):
    """An observer that keeps a :class:`Sketch`; it has only its range left to define."""

    sketch: Sketch

    def _update(self, x: Tensor, low: Tensor, high: Tensor) -> None:
        values = rows(x, self.spec, self.name)
        if self.shape is None:
            self.sketch = Sketch(values.shape[0])
        self.sketch.add(values, low.flatten(), high.flatten())

    def _tensors(self) -> dict[str, Tensor]:
        return self.sketch.tensors()

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self.sketch = Sketch(state["low"].numel())
        self.sketch.load(state)

    def _shaped(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds ``[R]`` in the shape of the scales."""
        assert self.shape is not None
        return low.reshape(self.shape), high.reshape(self.shape)
