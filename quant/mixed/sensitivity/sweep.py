"""Quantize one group at a time and compare the network's output."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quant.mixed.bench import Bench
from quant.mixed.groups import Group
from quant.mixed.replay import replay

__all__ = ["Score", "sweep"]

Score = Callable[[Tensor, Tensor], Tensor]
"""Compares the float output [N, K] with another: [N], one number per image, 0 where they are equal."""


@torch.no_grad()
def sweep(bench: Bench, scores: Sequence[Score]) -> list[NDArray[np.float64]]:
    """The mean score over all images for each group at each width.

    Returns:
        For each score a table [groups, bits].
    """
    shape = (len(scores), len(bench.groups), len(bench.bits))
    total = np.zeros(shape)
    rows = {group.name: row for row, group in enumerate(bench.groups)}
    cells, done = len(bench.groups) * len(bench.images), 0
    for images in bench.images:
        bench.formats.all_float()
        reference = bench.graph(images)
        bench.set_background()

        def visit(group: Group, finish: Callable[[], Any], reference: Tensor = reference) -> None:
            nonlocal done
            usual = bench.background_of(group)
            for column, bits in enumerate(bench.bits):
                if bits != usual:
                    bench.formats.set_group(group.name, bits)
                    output = finish()
                    for index, score in enumerate(scores):
                        total[index, rows[group.name], column] += _sum(score, reference, output)
            bench.formats.set_group(group.name, usual)
            done += 1
            bench.progress("sensitivity", done, cells)

        output = replay(bench.graph, bench.groups, images, visit)
        for group in bench.groups:
            usual = bench.background_of(group)
            if usual in bench.bits:
                for index, score in enumerate(scores):
                    column = list(bench.bits).index(usual)
                    total[index, rows[group.name], column] += _sum(score, reference, output)
    bench.formats.all_float()
    return list(total / bench.image_count)


def _sum(score: Score, reference: Tensor, output: Tensor) -> float:
    return float(score(reference.double(), output.double()).sum())
