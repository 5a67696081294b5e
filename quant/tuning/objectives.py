"""How close quantized outputs are to float ones: what searches for scales maximise."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Objective", "closeness", "pair_order", "pearson", "rank_loss", "sample_pairs"]

Objective = Literal["mse", "pearson"]


def closeness(objective: Objective, found: Tensor, wanted: Tensor, dims: Sequence[int]) -> Tensor:
    """The mean squared error with a minus sign, or Pearson's correlation; higher is better.

    Args:
        objective: which.
        found: the quantized outputs.
        wanted: the float outputs, the same shape.
        dims: the axes taken together; the others remain.

    Returns:
        float64.
    """
    if objective == "mse":
        return -(found - wanted).square_().mean(dim=tuple(dims), dtype=torch.float64)
    return pearson(found, wanted, dims)


def pearson(a: Tensor, b: Tensor, dims: Sequence[int]) -> Tensor:
    """Γ(a, b) = Σ (a − mean a)(b − mean b) / (‖a − mean a‖ ‖b − mean b‖), 0 where either is constant.

    Liu et al. 2021, "Post-Training Quantization for Vision Transformer", section 3.2.

    Args:
        a: any shape.
        b: the shape of ``a``.
        dims: the axes taken together; the others remain.

    Returns:
        float64.
    """
    dims = tuple(dims)
    a, b = a.double(), b.double()
    a = a - a.mean(dim=dims, keepdim=True)
    b = b - b.mean(dim=dims, keepdim=True)
    norms = (a.square().sum(dim=dims) * b.square().sum(dim=dims)).sqrt()
    return torch.where(norms > 0, (a * b).sum(dim=dims) / norms, 0.0)


def sample_pairs(length: int, count: int, seed: int) -> Tensor:
    """Different pairs i < j of positions: all of them, or ``count`` drawn without repetition.

    Returns:
        int64 [2, min(count, length (length − 1) / 2)].
    """
    every = torch.triu_indices(length, length, offset=1)
    if every.shape[1] <= count:
        return every
    drawn = torch.randperm(every.shape[1], generator=torch.Generator().manual_seed(seed))[:count]
    return every[:, drawn.sort().values]


def pair_order(scores: Tensor, pairs: Tensor) -> Tensor:
    """sign(a_i − a_j) of the pairs [2, P] in every row of ``scores`` [..., N]: [..., P]."""
    first, second = pairs
    return torch.sign(scores[..., first] - scores[..., second])


def rank_loss(found: Tensor, order: Tensor, pairs: Tensor, theta: float) -> Tensor:
    """How far attention scores are from keeping their order within each row, with a margin.

    The mean over rows and pairs (i, j) of max(0, θ − (â_i − â_j) sign(a_i − a_j)). Liu et al. 2021, equation
    of section 3.3, with the mean in place of the sum, so that its weight beside a correlation depends neither
    on the number of tokens nor on how many pairs are drawn.

    Args:
        found: quantized scores â [..., N].
        order: of the float scores a, from :func:`pair_order`.
        pairs: [2, P].
        theta: the margin, in units of the scores.

    Returns:
        float64 [].
    """
    first, second = pairs
    kept = (found[..., first] - found[..., second]).mul_(order)
    return (theta - kept).clamp_(min=0.0).mean(dtype=torch.float64)
