"""The range whose quantized distribution is closest to the real one."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from quant.errors import BadInput
from quant.observers.cells import Cells
from quant.observers.registry import register_observer
from quant.observers.sketch import SketchObserver
from quant.spec import QuantSpec

__all__ = ["Kl", "best_cut"]


@register_observer("kl")
class Kl(SketchObserver):
    """Minimum Kullback-Leibler divergence over cut-off thresholds (Migacz, GTC 2017: TensorRT calibration).

    With ``w = max(-low, high) / bins`` the values are counted in linear bins of width ``w`` that meet at
    zero. For each threshold ``T = i * w`` the range is cut to ``[-T, T]``: P is the cut histogram with the
    outliers added to its end bins; Q is the cut histogram without them, its bins pooled into as many levels
    as the format has, each level spread evenly over its bins that were not empty. The last ``T`` with the
    least ``KL(P || Q)`` wins.

    - A symmetric format sees the histogram of ``|x|`` and has ``2^(bits-1)`` levels: the classic form.
    - An affine format sees the signed histogram, cut to ``[max(low, -T), min(high, T)]``, and has
      ``2^bits`` levels.

    The bins next to zero take their outer neighbour's count: zero has an exact code wherever the range
    ends, and the spike of zeros behind a ReLU would outvote everything else.

    Options:
        bins: linear bins from zero to the larger bound; 2048 by default, 256 to 65536.
    """

    defaults: ClassVar[Mapping[str, float]] = {"bins": 2048}

    def __init__(self, spec: QuantSpec, name: str = "tensor") -> None:
        super().__init__(spec, name)
        bins = self.options["bins"]
        if bins not in range(256, 2**16 + 1):
            raise BadInput(f"'{name}': bins {bins} of 'kl' must be a whole number, 256 to 65536")

    def _range(self, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        if spec.scheme != "uniform":
            raise BadInput(f"'{self.name}': observer 'kl' serves scheme 'uniform', not '{spec.scheme}'")
        bins = int(self.options["bins"])
        low = self.sketch.low.double().clamp(max=0.0)
        high = self.sketch.high.double().clamp(min=0.0)
        amax = torch.maximum(-low, high)
        negative, positive = _linear_histogram(self.sketch.cells(), amax / bins, bins)
        levels = 1 << spec.bits
        if spec.symmetric:
            negative, positive, levels = torch.zeros_like(positive), negative + positive, levels // 2
        cut = best_cut(negative, positive, levels) * amax / bins
        return self._shaped(torch.maximum(low, -cut), torch.minimum(high, cut))


def _linear_histogram(cells: Cells, width: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Counts of ``[R, bins]`` outward from zero, below it and above it."""
    edges = torch.arange(-bins, bins + 1, dtype=torch.float64, device=width.device) * width.unsqueeze(1)
    edges[:, 0], edges[:, -1] = -torch.inf, torch.inf  # no value falls off by rounding
    counts = cells.cumulative(edges).diff(dim=1)
    return counts[:, :bins].flip(1), counts[:, bins:]


def best_cut(negative: Tensor, positive: Tensor, levels: int) -> Tensor:
    """The number of bins to keep on each side of zero.

    Args:
        negative: counts ``[R, B]`` outward from zero, all 0 for a distribution of one sign.
        positive: counts ``[R, B]``.
        levels: how many levels the format has for the range kept, at most B.

    Returns:
        float64 ``[R]``, at most B; ties go to the larger.
    """
    return torch.stack([_best_cut(n, p, levels) for n, p in zip(negative, positive, strict=True)])


def _best_cut(negative: Tensor, positive: Tensor, levels: int) -> Tensor:
    """:func:`best_cut` of one row.

    KL(P || Q) is written with cumulative sums. Let ``h`` be the cut histogram with sum ``W``, ``o`` its
    outliers, ``N`` the total, and ``q_k = (sum of h in level k) / (bins with h > 0 in level k)``. Then
    ``KL = (sum P log P - sum P log Q) / N - log N + log W`` with
    ``sum P log Q = sum_k (q_k * bins_k) log q_k + o_left log q_first + o_right log q_last``.
    """
    bins = positive.numel()
    negative, positive = (torch.cat([side[1:2], side[1:]]) for side in (negative, positive))
    extent = [int(side.nonzero().max()) + 1 if bool(side.any()) else 0 for side in (negative, positive)]
    histogram = torch.cat([negative.flip(0), positive])
    kept = torch.arange(1, bins + 1, device=histogram.device)
    left = bins - kept.clamp(max=extent[0])  # first bin kept
    right = bins + kept.clamp(max=extent[1])  # first bin beyond
    enough = right - left >= levels
    kept, left, right = kept[enough], left[enough], right[enough]
    steps = torch.arange(levels + 1, device=histogram.device)
    first = left[:, None] + -(-steps * (right - left)[:, None] // levels)  # first bin of each level
    pooled = _upto(histogram)[first].diff(dim=1)
    q = pooled / _upto((histogram > 0).double())[first].diff(dim=1).clamp(min=1.0)

    below, above = _upto(histogram), histogram.sum() - _upto(histogram)
    outliers, ends = torch.stack([below[left], above[right]]), histogram[torch.stack([left, right - 1])]
    entropy = _upto(torch.xlogy(histogram, histogram))
    p_log_p = entropy[right] - entropy[left]
    p_log_p += (torch.xlogy(ends + outliers, ends + outliers) - torch.xlogy(ends, ends)).sum(dim=0)
    p_log_q = torch.xlogy(pooled, q).sum(dim=1) + torch.xlogy(outliers, q[:, [0, -1]].T).sum(dim=0)
    divergence = (p_log_p - p_log_q) / histogram.sum() + torch.log(pooled.sum(dim=1))
    divergence[((ends == 0) & (outliers > 0)).any(dim=0)] = torch.inf  # P > 0 where Q = 0
    best = len(divergence) - 1 - divergence.flip(0).argmin()
    return kept[best].double()


def _upto(x: Tensor) -> Tensor:
    """Cumulative sum with a 0 in front, so that the sum of ``x[i:j]`` is entry j less entry i."""
    return torch.nn.functional.pad(torch.cumsum(x, dim=0), (1, 0))
