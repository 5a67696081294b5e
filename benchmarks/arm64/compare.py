"""How far apart the logits, or other tensors, of two runtimes are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Apart", "apart", "relative"]


@dataclass(frozen=True)
class Apart:
    """Logits [N, K] of the same images, computed twice.

    Attributes:
        relative: largest difference of any logit over the largest magnitude of the reference's.
        same_top1: images with the same class on top.
        images: how many.
        worst: number of the image with the largest difference.
    """

    relative: float
    same_top1: int
    images: int
    worst: int


def relative(values: NDArray[Any], reference: NDArray[Any]) -> float:
    """``max |values − reference| / max |reference|``, in float64; infinite where one is not finite."""
    got, wanted = values.astype(np.float64), reference.astype(np.float64)
    if not (np.isfinite(got).all() and np.isfinite(wanted).all()):
        return float("inf")
    most = float(np.abs(got - wanted).max(initial=0.0))
    return most / float(np.abs(wanted).max(initial=0.0)) if most else 0.0


def apart(values: NDArray[Any], reference: NDArray[Any]) -> Apart:
    """Compare logits [N, K] with those of a reference."""
    far = np.abs(values.astype(np.float64) - reference.astype(np.float64)).max(axis=1)
    same = values.argmax(axis=1) == reference.argmax(axis=1)
    return Apart(relative(values, reference), int(same.sum()), len(values), int(far.argmax()))
