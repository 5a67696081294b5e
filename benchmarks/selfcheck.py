"""Is the float model measured as it was trained? If not, which of the usual mistakes explains it?

A wrong mean, a wrong crop or another order of labels costs more than any quantization, and leaves every
variant beside an FP32 that is wrong in the same way.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from benchmarks.accuracy import Accuracy, Predictions
from benchmarks.metrics import Floats, Labels
from quant.data.preprocessing import Preprocessing
from quant.errors import BadInput

__all__ = ["Measure", "check_recorded", "suspects"]

Measure = Callable[[Preprocessing, bool], Predictions]
"""Runs the float model on some images under another preprocessing, with red and blue exchanged if asked."""

_SCALES = {
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std of 0.5 (Inception)": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "values in [0, 1] (mean 0, std 1)": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "CLIP's mean and std": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
_ROUNDED = 0.05  # points: figures are published with one digit behind the point


def check_recorded(
    measured: Accuracy, recorded: float, preprocessing: Preprocessing, measure: Measure
) -> None:
    """Compare the float model with the figure that is known of it.

    Args:
        measured: what the float model reached.
        recorded: top-1 in % that is known of these weights on these images, or on the set they are from.
        preprocessing: what the images went through.
        measure: gives the float model's answers to some images under any preprocessing.

    Raises:
        BadInput: the figure is outside of the measured one's 95 % interval; the message names the mistake
            that explains it best, if one does.
    """
    low, high = 100 * measured.ci95.low - _ROUNDED, 100 * measured.ci95.high + _ROUNDED
    if low <= recorded <= high:
        return
    said = (
        f"the float model has {100 * measured.top1:.2f} % top-1 on {measured.n} images (95 % interval "
        f"{low:.1f} to {high:.1f}), but {recorded:g} % is recorded for it"
    )
    answers = measure(preprocessing, False)
    usual = _right(answers.logits, answers.labels)
    tried = dict(suspects(preprocessing, answers, measure))
    best = min(tried, key=lambda name: abs(100 * tried[name] - recorded), default=None)
    if best is not None and abs(100 * tried[best] - recorded) < abs(100 * usual - recorded) - 2:
        raise BadInput(
            f"{said}; with {best} it has {100 * tried[best]:.1f} % of {len(answers.labels)} images "
            f"({100 * usual:.1f} % as configured), so this is probably the mistake: correct it under "
            "`model.preprocessing`, or the order of classes in the data"
        )
    raise BadInput(
        f"{said}, and none of the usual mistakes explains it (tried: {'; '.join(tried)}); check weights and "
        "data, or take `recorded_top1` out of `bench`"
    )


def suspects(
    preprocessing: Preprocessing, answers: Predictions, measure: Measure
) -> Iterator[tuple[str, float]]:
    """Each usual mistake in words, and the share of right answers if it were one and is undone.

    Args:
        preprocessing: what the images went through.
        answers: the float model's answers.
        measure: gives its answers under another preprocessing.
    """
    yield from _orders_of_classes(answers.logits, answers.labels)
    for name, changed, swapped in _preprocessings(preprocessing):
        found = measure(changed, swapped)
        yield name, _right(found.logits, found.labels)


def _orders_of_classes(logits: Floats, labels: Labels) -> Iterator[tuple[str, float]]:
    classes = logits.shape[1]
    as_text = np.argsort([str(i) for i in range(classes)])  # folders 0, 1, 10, 11, ... in a sorted listing
    guesses = logits.argmax(axis=1)
    yield "labels that count from 1", float(np.mean(guesses == labels - 1))
    yield "outputs that count from 1 (a background class)", float(np.mean(guesses == labels + 1))
    within = labels < classes
    sorted_labels = np.where(within, as_text[np.where(within, labels, 0)], -1)
    yield "classes in the order of their numbers as text", float(np.mean(guesses == sorted_labels))


def _preprocessings(own: Preprocessing) -> Iterator[tuple[str, Preprocessing, bool]]:
    if own.input_size[0] == 3:
        for name, (mean, std) in _SCALES.items():
            if (own.mean, own.std) != (mean, std):
                yield name, replace(own, mean=mean, std=std), False
        yield "red and blue exchanged", own, True
    for crop in (0.875, 0.95, 1.0):
        if own.crop_pct != crop:
            yield f"crop_pct {crop:g}", replace(own, crop_pct=crop), False
    for interpolation in ("bilinear", "bicubic"):
        if own.interpolation != interpolation:
            yield f"{interpolation} interpolation", replace(own, interpolation=interpolation), False


def _right(logits: Floats, labels: Labels) -> float:
    return float(np.mean(logits.argmax(axis=1) == labels))
