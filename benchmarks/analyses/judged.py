"""How far a network with quantized layers is from itself in float, on images with labels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, fx

from benchmarks.metrics import agreement, sqnr_db
from benchmarks.statistics import Interval, mean_and_error
from deploy.pipeline.images import Spread
from deploy.pipeline.line import Line
from quant.data.batches import batches
from quant.errors import Unsupported
from quant.mixed.sensitivity.kl import kl

__all__ = ["Judge", "Judged", "judge_of", "mean_difference"]


@dataclass(frozen=True, eq=False)
class Judged:
    """What was measured of one state of a network.

    Attributes:
        divergence: KL divergence from the float network, nats, of each image, [N].
        top1: share of images with the right class.
        agreement: share of images with the float network's class.
        sqnr_db: of the logits against the float network's.
    """

    divergence: NDArray[np.float64]
    top1: float
    agreement: float
    sqnr_db: float

    @property
    def kl(self) -> float:
        """The mean divergence, nats."""
        return float(self.divergence.mean())


class Judge:
    """Compares states of a graph with what it computes in float."""

    def __init__(
        self,
        graph: fx.GraphModule,
        images: Sequence[Tensor],
        labels: NDArray[np.int64],
        in_float: Callable[[], None],
    ) -> None:
        """Run the float network.

        Args:
            graph: with fake-quant layers.
            images: batches [B, ...], held in memory.
            labels: classes of all of them, [N].
            in_float: switches the fake-quant layers off.
        """
        self._graph = graph
        self.images = images
        self._labels = labels
        in_float()
        self._reference = self._logits()
        self.top1 = float(np.mean(self._reference.argmax(1).numpy() == labels))
        """The float network's share of images with the right class."""

    def judge(self) -> Judged:
        """Measure the graph in the state that it is in."""
        logits = self._logits()
        answers, expected = logits.argmax(1).numpy(), self._reference.argmax(1).numpy()
        return Judged(
            divergence=kl(self._reference.double(), logits.double()).numpy(),
            top1=float(np.mean(answers == self._labels)),
            agreement=agreement(answers, expected),
            sqnr_db=sqnr_db(self._reference.numpy(), logits.numpy()),
        )

    @torch.no_grad()
    def _logits(self) -> Tensor:
        return torch.cat([self._graph(images) for images in self.images]).cpu()


def judge_of(
    line: Line, split: str, count: int, graph: fx.GraphModule, in_float: Callable[[], None]
) -> Judge:
    """A judge with images of a run, evenly spaced over the set.

    Args:
        line: the run.
        split: ``calibration`` or ``validation``.
        count: how many images, or all where there are fewer.
        graph: a calibrated graph of the run.
        in_float: switches its fake-quant layers off.

    Raises:
        Unsupported: the model's outputs are not scores of classes.
    """
    if line.config.task != "classification":
        raise Unsupported(f"task {line.config.task}: the divergence of class probabilities needs classes")
    source = Spread(line.calibration if split == "calibration" else line.validation, count)
    size = line.batch_size(line.config.calibration_batch)
    every = list(batches(source, line.loaded.preprocessing, size))
    labels: NDArray[np.int64] = torch.cat([batch.labels for batch in every]).numpy()
    return Judge(graph, [batch.images for batch in every], labels, in_float)


def mean_difference(ours: Judged, theirs: Judged) -> Interval:
    """Where the mean difference of the divergences lies, ours − theirs on the same images.

    Student's 95 % interval, ``d̄ ± t_{N−1} s / √N``, of the images' differences d with standard deviation s.
    """
    mean, error = mean_and_error(ours.divergence - theirs.divergence)
    half = float(stats.t.ppf(0.975, len(ours.divergence) - 1)) * error
    return Interval(mean - half, mean + half) if math.isfinite(half) else Interval(-math.inf, math.inf)
