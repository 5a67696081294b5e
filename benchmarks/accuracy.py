"""Run a model over labelled images and say how right it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.metrics import (
    Flips,
    Floats,
    Labels,
    agreement,
    macro_scores,
    mean_cosine,
    paired_flips,
    sqnr_db,
    topk_hits,
)
from benchmarks.statistics import Interval, wilson_interval
from deploy.runner import Array, Runner
from quant.errors import BadInput

__all__ = ["Accuracy", "LabelledBatch", "Predictions", "collect", "score", "sole_output"]


class LabelledBatch(Protocol):
    """Preprocessed images and their classes."""

    @property
    def images(self) -> ArrayLike:
        """Images [B, C, H, W], of float32."""
        ...

    @property
    def labels(self) -> ArrayLike:
        """Class numbers [B], integers."""
        ...


@dataclass(frozen=True)
class Predictions:
    """What a model answered: ``logits`` [N, K] for images labelled ``labels`` [N]."""

    logits: Floats
    labels: Labels


@dataclass(frozen=True)
class Accuracy:
    """How right one variant is; shares are in [0, 1].

    Attributes:
        n: images judged.
        correct: images whose largest logit is the label.
        top1: correct / n.
        top5: label among the five largest logits; ``None`` with five outputs or fewer, where it is always 1.
        precision: macro precision over the classes present in the labels.
        recall: macro recall over them.
        f1: macro F1 over them.
        classes: number of those classes.
        ci95: Wilson interval of ``top1``.
        agreement: share of images given the same class as by the reference; ``None`` for the reference.
        flips: images that became right or wrong; ``None`` for the reference.
        sqnr_db: fidelity of the logits to the reference's, dB; ``None`` for the reference.
        cosine: mean over images of the cosine of the logits and the reference's; ``None`` for the reference.
    """

    n: int
    correct: int
    top1: float
    top5: float | None
    precision: float
    recall: float
    f1: float
    classes: int
    ci95: Interval
    agreement: float | None = None
    flips: Flips | None = None
    sqnr_db: float | None = None
    cosine: float | None = None


def collect(
    runner: Runner,
    batches: Iterable[LabelledBatch],
    *,
    input_name: str = "input",
    output_name: str | None = None,
    title: str = "accuracy",
    total: int | None = None,
    console: Console | None = None,
) -> Predictions:
    """Run every batch, with a progress bar.

    Args:
        runner: an opened model.
        batches: images and labels.
        input_name: the model input that takes the images.
        output_name: the output holding logits [B, K]; the only one when left out.
        title: text beside the bar.
        total: number of images when known, for the remaining time.
        console: where the bar is drawn; standard error when left out.

    Raises:
        BadInput: there are no images, or the output is not one row of logits per image.
    """
    logits: list[Floats] = []
    labels: list[Labels] = []
    with _progress(console) as progress:
        task = progress.add_task(title, total=total)
        for batch in batches:
            images = np.ascontiguousarray(batch.images, dtype=np.float32)
            output = sole_output(runner.infer({input_name: images}), output_name)
            if output.ndim != 2 or len(output) != len(images):
                raise BadInput(
                    f"expected logits [{len(images)}, K], the model gave {output.shape}; "
                    "name the output that holds class scores"
                )
            logits.append(output.astype(np.float32))
            labels.append(np.asarray(batch.labels, dtype=np.int64))
            progress.advance(task, len(images))
    if not logits:
        raise BadInput("no images to measure accuracy on; check the data folder and the limit")
    return Predictions(np.concatenate(logits), np.concatenate(labels))


def score(predictions: Predictions, reference: Predictions | None = None) -> Accuracy:
    """Judge the predictions, and compare them with the reference's on the same images.

    Raises:
        BadInput: logits are not finite or do not fit the labels, or the reference saw other images.
    """
    logits, labels = predictions.logits, predictions.labels
    hits = topk_hits(logits, labels, 1)
    guesses = np.argmax(logits, axis=1)
    macro = macro_scores(guesses, labels)
    n, correct = len(labels), int(hits.sum())
    base = Accuracy(
        n=n,
        correct=correct,
        top1=correct / n,
        top5=float(topk_hits(logits, labels, 5).mean()) if logits.shape[1] > 5 else None,
        precision=macro.precision,
        recall=macro.recall,
        f1=macro.f1,
        classes=len(np.unique(labels)),
        ci95=wilson_interval(correct, n),
    )
    if reference is None:
        return base
    if not np.array_equal(labels, reference.labels):
        raise BadInput("the reference was run on other images (the labels differ); use the same batches")
    were = np.argmax(reference.logits, axis=1)
    return Accuracy(
        **vars(base)
        | {
            "agreement": agreement(guesses, were),
            "flips": paired_flips(guesses, were, labels),
            "sqnr_db": sqnr_db(reference.logits, logits),
            "cosine": mean_cosine(reference.logits, logits),
        }
    )


def sole_output(outputs: dict[str, Array], name: str | None) -> Array:
    """The named output, or the only one.

    Raises:
        BadInput: the name is unknown, or no name was given and there are several outputs.
    """
    if name is None and len(outputs) == 1:
        return next(iter(outputs.values()))
    if name is None or name not in outputs:
        given = "no output was named" if name is None else f"there is no output {name!r}"
        raise BadInput(f"{given}; the model has: {', '.join(sorted(outputs))}")
    return outputs[name]


def _progress(console: Console | None) -> Progress:
    console = console or Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
