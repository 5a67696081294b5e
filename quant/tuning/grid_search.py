"""Choose the scales of a weight among shrunk ranges, each scale on its own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from quant.layout import aminmax
from quant.qparams import QParams, qparams_from_range
from quant.spec import QuantSpec

__all__ = ["best_grid", "shrunk_grids"]


def shrunk_grids(weight: Tensor, spec: QuantSpec, factors: Iterable[float], name: str) -> Iterator[QParams]:
    """The grids of ``weight`` clamped to ``±f · max |w|`` for each factor f; f = 1 is the min-max grid."""
    low, high = aminmax(weight.detach(), spec, name)
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    limit = torch.maximum(-low, high)
    for factor in factors:
        bound = limit * factor
        yield qparams_from_range(torch.maximum(low, -bound), torch.minimum(high, bound), spec, name)


def best_grid(candidates: Iterable[QParams], error: Callable[[QParams], Tensor]) -> QParams:
    """For every scale the candidate with the least error.

    Args:
        candidates: grids of one layout; of equally good ones the earliest is taken.
        error: the error that each scale of a grid causes, in the shape of the scales.
    """
    best: QParams | None = None
    least = torch.tensor(torch.inf)
    for grid in candidates:
        found = error(grid)
        if best is None:
            best, least = grid, found
            continue
        better = found < least
        least = torch.where(better, found, least)
        scale = torch.where(better, grid.scale, best.scale)
        zero_point = torch.where(better, grid.zero_point, best.zero_point)
        best = replace(best, scale=scale, zero_point=zero_point)
    assert best is not None
    return best
