"""How far a block's output is from the wanted one, every token counting the same.

Transformers keep a few tokens whose values are tens of times larger than those of all others. In a plain mean
of squares they count alone, though the LayerNorm that reads them gives every token the same size.
"""

from torch import Tensor

__all__ = ["relative_error", "typical_size"]


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """The mean over rows t of ‖found_t − wanted_t‖² / ‖wanted_t − mean(wanted_t)‖².

    A row is a token (the last axis); of a feature map, all of it is one row.

    Args:
        found: [B, …, C], or a feature map [B, C, H, W].
        wanted: the same shape.

    Returns:
        Scalar; 1 is the error of answering each row's mean.
    """
    return ((found - wanted).square() / _variance(wanted)).mean()


def typical_size(wanted: Tensor) -> float:
    """The standard deviation within a row, the median over the rows of :func:`relative_error`."""
    return float(_variance(wanted).median().sqrt())


def _variance(wanted: Tensor) -> Tensor:
    """Within each row, of a shape that broadcasts; a row of zeros is given 1e-3 of the median row's."""
    axes = tuple(range(wanted.ndim)) if wanted.ndim == 4 else (-1,)
    variance = wanted.var(axes, correction=0, keepdim=True)
    return variance.clamp(min=max(1e-3 * float(variance.median()), 1e-12))
