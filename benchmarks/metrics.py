"""Classification and fidelity figures of logits, in plain numpy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics import mcnemar_exact
from quant.errors import BadInput

__all__ = [
    "Flips",
    "Floats",
    "Labels",
    "MacroScores",
    "agreement",
    "macro_scores",
    "mean_cosine",
    "paired_flips",
    "sqnr_db",
    "topk_hits",
]

Floats = NDArray[np.floating]
Labels = NDArray[np.integer]


@dataclass(frozen=True)
class MacroScores:
    """Means over classes, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Flips:
    """Images whose verdict changed against the reference.

    Attributes:
        better: wrong in the reference, right here.
        worse: right in the reference, wrong here.
        p_value: exact McNemar p-value of "no difference".
    """

    better: int
    worse: int
    p_value: float


def topk_hits(logits: Floats, labels: Labels, k: int) -> NDArray[np.bool_]:
    """Whether the label of each image is among its ``k`` largest logits.

    Equal logits are ranked by class number, lowest first, as ``argmax`` does; so ``k = 1`` always agrees
    with ``argmax``.

    Args:
        logits: finite scores [N, K].
        labels: class numbers [N] in [0, K).
        k: how many guesses count, at least 1.

    Returns:
        One truth value per image [N].

    Raises:
        BadInput: shapes disagree, a label is out of range, a score is not finite or ``k`` < 1.
    """
    _check(logits, labels)
    if k < 1:
        raise BadInput(f"top-k needs k >= 1, got {k}")
    own = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]
    rank = np.sum((logits > own) | ((logits == own) & earlier), axis=1)
    hits: NDArray[np.bool_] = rank < k
    return hits


def macro_scores(predictions: Labels, labels: Labels) -> MacroScores:
    """Precision, recall and F1, averaged without weights over the classes present in the labels.

        precision = TP / (TP + FP),  recall = TP / (TP + FN),  F1 = 2 TP / (2 TP + FP + FN)

    A class that is present but never predicted has 0/0 precision; it counts as 0 (scikit-learn's
    ``zero_division=0``). A predicted class that no label has adds no term of its own: such a guess
    already lowers the recall of the true class.

    Args:
        predictions: class numbers [N].
        labels: class numbers [N].

    Raises:
        BadInput: the arrays are empty or of unequal length.
    """
    _check_pair(predictions, labels)
    present = np.unique(labels)
    hit = predictions == labels
    true_positive = np.array([np.sum(hit & (labels == c)) for c in present], dtype=np.float64)
    predicted = np.array([np.sum(predictions == c) for c in present], dtype=np.float64)
    actual = np.array([np.sum(labels == c) for c in present], dtype=np.float64)
    precision = np.divide(true_positive, predicted, out=np.zeros_like(predicted), where=predicted > 0)
    f1 = 2 * true_positive / (predicted + actual)  # TP + FP = predicted, TP + FN = actual > 0
    return MacroScores(float(precision.mean()), float((true_positive / actual).mean()), float(f1.mean()))


def agreement(predictions: Labels, reference: Labels) -> float:
    """Share of images on which two models name the same class, right or wrong.

    Raises:
        BadInput: the arrays are empty or of unequal length.
    """
    _check_pair(predictions, reference)
    return float(np.mean(predictions == reference))


def paired_flips(predictions: Labels, reference: Labels, labels: Labels) -> Flips:
    """Count the images that became right or wrong against the reference.

    Raises:
        BadInput: the arrays are empty or of unequal length.
    """
    _check_pair(predictions, labels)
    _check_pair(reference, labels)
    right, was_right = predictions == labels, reference == labels
    better, worse = int(np.sum(right & ~was_right)), int(np.sum(~right & was_right))
    return Flips(better, worse, mcnemar_exact(better, worse))


def sqnr_db(reference: Floats, values: Floats) -> float:
    """Signal to quantization noise ratio, 10 log10(Σ ref² / Σ (ref - x)²), in dB.

    Sums run over all elements in float64. Equal arrays give ``inf``; a reference of all zeros with any
    noise gives ``-inf``.

    Raises:
        BadInput: the shapes differ or the arrays are empty.
    """
    if reference.shape != values.shape or reference.size == 0:
        raise BadInput(f"SQNR needs two equally shaped arrays, got {reference.shape} and {values.shape}")
    ref = reference.astype(np.float64)
    signal, noise = float(np.sum(ref**2)), float(np.sum((ref - values.astype(np.float64)) ** 2))
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")


def mean_cosine(reference: Floats, values: Floats) -> float:
    """Mean over images of the cosine between two rows of logits, Σ r x / √(Σ r² Σ x²), in [-1, 1].

    A row of zeros has no direction; its cosine counts as 0. Sums are in float64.

    Args:
        reference: [N, K].
        values: [N, K].

    Raises:
        BadInput: the shapes differ or the arrays are empty.
    """
    if reference.shape != values.shape or reference.ndim != 2 or reference.size == 0:
        raise BadInput(f"cosine needs two equally shaped [N, K], got {reference.shape} and {values.shape}")
    ref, own = reference.astype(np.float64), values.astype(np.float64)
    length = np.linalg.norm(ref, axis=1) * np.linalg.norm(own, axis=1)
    product = np.sum(ref * own, axis=1)
    return float(np.divide(product, length, out=np.zeros_like(product), where=length > 0).mean())


def _check(logits: Floats, labels: Labels) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.size == 0:
        raise BadInput(f"expected logits [N, K] and labels [N], got {logits.shape} and {labels.shape}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise BadInput(
            f"labels run from {labels.min()} to {labels.max()}, but the model has {logits.shape[1]} outputs; "
            "give labels in the numbering of the model"
        )
    bad = int(np.sum(~np.isfinite(logits).all(axis=1)))
    if bad:
        raise BadInput(f"{bad} of {len(logits)} images have logits that are not finite (NaN or infinity)")


def _check_pair(left: Labels, right: Labels) -> None:
    if left.shape != right.shape or left.ndim != 1 or left.size == 0:
        raise BadInput(f"expected two equally long lists of classes, got {left.shape} and {right.shape}")
