"""What calibration costs: time beside a plain forward pass, and memory for more images."""

import json
import subprocess
import sys
import time
from statistics import median

import torch
from torch import Tensor

from benchmarks.bars.bar import Bar
from deploy.pipeline.images import calibration_batches
from deploy.pipeline.line import Line
from quant.calibrate import Batches, calibrate

__all__ = ["memory_bar", "time_bar"]

ROUNDS = 3


def time_bar(line: Line) -> Bar:
    """Calibration against FP32 forward passes of the same, already decoded images, taking turns."""
    size = line.config.calibration_batch
    images = torch.cat(list(calibration_batches(line.calibration, line.loaded.preprocessing, size)(None)))
    (recipe, *_) = line.recipes
    ratios = []
    for _ in range(ROUNDS):
        plain = _seconds_plain(line.loaded.model, torch.split(images, size))
        start = time.perf_counter()
        calibrate(line.graph, recipe, _spread(images, size))
        ratios.append((time.perf_counter() - start) / plain)
    return Bar(
        f"calibration of {len(images)} images: time against a plain FP32 forward",
        "at most",
        2.0,
        median(ratios),
        "×",
        remark=f"median of {ROUNDS}: {', '.join(f'{r:.2f}' for r in ratios)}",
    )


def memory_bar(few: int = 64, many: int = 256) -> Bar:
    """Peak resident memory of calibrating on ``many`` images against ``few``, each in a fresh process."""
    peaks = {}
    for count in (few, many):
        command = [sys.executable, "-m", "benchmarks.bars.calibration_memory", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[count] = json.loads(done.stdout)["peak_mib"]
    return Bar(
        f"… peak memory growth from {few} to {many} images",
        "at most",
        5.0,
        100 * (peaks[many] / peaks[few] - 1),
        " %",
        remark=f"{peaks[few]:.0f} and {peaks[many]:.0f} MiB",
    )


@torch.no_grad()
def _seconds_plain(model: torch.nn.Module, batches: tuple[Tensor, ...]) -> float:
    start = time.perf_counter()
    for batch in batches:
        model(batch)
    return time.perf_counter() - start


def _spread(images: Tensor, size: int) -> Batches:
    """As the pipeline gives them: evenly spaced when fewer are wanted."""

    def give(count: int | None) -> tuple[Tensor, ...]:
        wanted = len(images) if count is None else min(count, len(images))
        return torch.split(images[torch.arange(wanted) * len(images) // wanted], size)

    return give
