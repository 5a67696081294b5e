"""Distributions as weighted intervals, and what can be computed from them."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Cells"]


@dataclass(frozen=True, eq=False)
class Cells:
    """The values of R rows, each as E cells in ascending order: ``count`` values evenly within [low, high].

    A cell with ``low == high`` is that very value; a cell may be empty.

    Attributes:
        low: float64 ``[R, E]``.
        high: float64 ``[R, E]``.
        count: float64 ``[R, E]``.
    """

    low: Tensor
    high: Tensor
    count: Tensor

    @property
    def exact(self) -> bool:
        """Every cell is one value that came once."""
        return self.low is self.high

    def order_statistic(self, rank: Tensor) -> Tensor:
        """The ``rank``-th smallest value of each row, counted from 0.

        The values of a cell are taken to lie at the centres of ``count`` equal parts of it.

        Args:
            rank: whole numbers ``[R, K]``.

        Returns:
            float64 ``[R, K]``.
        """
        below = torch.cumsum(self.count, dim=1)
        cell = torch.searchsorted(below, rank.double(), right=True).clamp(max=self.count.shape[1] - 1)
        low, high, count = (t.gather(1, cell) for t in (self.low, self.high, self.count))
        within = rank - (below.gather(1, cell) - count)
        return low + (high - low) * (within + 0.5) / count

    def quantile(self, fraction: float) -> Tensor:
        """Quantile of each row by linear interpolation, as ``numpy.quantile``; float64 ``[R]``."""
        position = fraction * (self.count.sum(dim=1, keepdim=True) - 1)
        first, last = self.order_statistic(position.floor()), self.order_statistic(position.ceil())
        return (first + (last - first) * (position - position.floor())).squeeze(1)

    def cumulative(self, edges: Tensor) -> Tensor:
        """How many values of each row are <= each edge, with the fitting share of a cell that is cut.

        Args:
            edges: float64 ``[R, K]``.

        Returns:
            float64 ``[R, K]``.
        """
        below = torch.nn.functional.pad(torch.cumsum(self.count, dim=1), (1, 0))
        whole = torch.searchsorted(self.high, edges, right=True)  # cells entirely at or below the edge
        cell = whole.clamp(max=self.count.shape[1] - 1)
        low, high, count = (t.gather(1, cell) for t in (self.low, self.high, self.count))
        share = ((edges - low) / (high - low).clamp(min=torch.finfo(torch.float64).tiny)).clamp(0.0, 1.0)
        cut = torch.where(whole < self.count.shape[1], share * count, 0.0)
        return below.gather(1, whole) + cut
