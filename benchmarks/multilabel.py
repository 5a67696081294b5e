"""Figures of models whose K outputs are K answers of yes and no."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import Accuracy, Predictions
from benchmarks.metrics import Flips, Floats, mean_cosine, sqnr_db
from benchmarks.statistics import mcnemar_exact, wilson_interval
from quant.errors import BadInput

__all__ = ["bits_of", "score_bits"]

_MOST = 62  # answers that an int64 label holds


def bits_of(labels: NDArray[np.integer], outputs: int) -> NDArray[np.bool_]:
    """The answers [N, K] of labels [N]: answer i is bit i.

    Raises:
        BadInput: there are more answers than a label holds, or a label has a bit that is none of them.
    """
    if outputs > _MOST:
        raise BadInput(f"task multilabel: the model has {outputs} outputs; a label holds up to {_MOST}")
    if labels.min() < 0 or labels.max() >= 2**outputs:
        raise BadInput(
            f"task multilabel: labels run from {labels.min()} to {labels.max()}, but {outputs} outputs allow "
            f"0 to {2**outputs - 1}, bit i for output i"
        )
    found: NDArray[np.bool_] = (labels[:, None] >> np.arange(outputs)) & 1 == 1
    return found


def score_bits(predictions: Predictions, reference: Predictions | None = None) -> Accuracy:
    """Judge K answers of yes (logit above 0) and no.

    ``top1`` is the share of samples whose K answers are all right, ``agreement`` that of samples whose K
    answers are all the reference's. Precision, recall and F1 are those of yes over all answers:

        precision = TP / (TP + FP),  recall = TP / (TP + FN),  F1 = 2 TP / (2 TP + FP + FN)

    and 0 where they are 0/0.

    Raises:
        BadInput: logits are not finite or do not fit the labels, or the reference saw other samples.
    """
    logits, labels = predictions.logits, predictions.labels
    if not np.isfinite(logits).all():
        raise BadInput("some samples have logits that are not finite (NaN or infinity)")
    yes, truth = logits > 0, bits_of(labels, logits.shape[1])
    right = (yes == truth).all(axis=1)
    hit, said, true = int((yes & truth).sum()), int(yes.sum()), int(truth.sum())
    n, correct = len(labels), int(right.sum())
    base = Accuracy(
        n=n,
        correct=correct,
        top1=correct / n,
        top5=None,
        precision=hit / said if said else 0.0,
        recall=hit / true if true else 0.0,
        f1=2 * hit / (said + true) if said + true else 0.0,
        classes=logits.shape[1],
        ci95=wilson_interval(correct, n),
    )
    if reference is None:
        return base
    if not np.array_equal(labels, reference.labels):
        raise BadInput("the reference was run on other samples (the labels differ); use the same batches")
    return Accuracy(**vars(base) | _against(yes, truth, logits, reference.logits))


def _against(
    yes: NDArray[np.bool_], truth: NDArray[np.bool_], logits: Floats, reference: Floats
) -> dict[str, float | Flips]:
    were = reference > 0
    right, was_right = (yes == truth).all(axis=1), (were == truth).all(axis=1)
    better, worse = int((right & ~was_right).sum()), int((~right & was_right).sum())
    return {
        "agreement": float((yes == were).all(axis=1).mean()),
        "flips": Flips(better, worse, mcnemar_exact(better, worse)),
        "sqnr_db": sqnr_db(reference, logits),
        "cosine": mean_cosine(reference, logits),
    }
