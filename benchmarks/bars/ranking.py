"""Ranking-aware scales for q and k against plain scale search: does attention keep its order, and what of it.

``python -m benchmarks.bars.ranking`` prints this part of the table alone. Both recipes differ in nothing but
the method ``ranking_aware``; everything is the fake-quant model in PyTorch.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from benchmarks.bars.bar import Bar, print_bars
from benchmarks.bars.runs import vit_config
from benchmarks.metrics import agreement
from deploy.pipeline.line import Line
from quant.calibrate import calibrate
from quant.data.batches import batches
from quant.encoding import Encoding, freeze
from quant.recipe import Recipe, load_recipe
from quant.tuning.attention_order import attention_order

__all__ = ["Outcome", "ranking_bars", "ranking_recipe"]

RANKING = "ranking_aware"
BARS = (8, 6)
_BATCH = 16


@dataclass(frozen=True)
class Outcome:
    """What one calibration gives.

    Attributes:
        tau: Kendall's τ_b of attention scores against float, mean over blocks.
        top1: in percent.
        agreement: with the float model's answers, in percent.
    """

    tau: float
    top1: float
    agreement: float


def ranking_recipe(bits: int, ranking: bool) -> Recipe:
    """The shipped recipe at another width, with or without its ranking-aware part."""
    recipe = load_recipe(RANKING)
    widths = {name: {"bits": bits} for name in ("activation", "weight", "attention")}
    specs = {name: spec.model_copy(update=widths.get(name, {})) for name, spec in recipe.specs.items()}
    methods = tuple(m for m in recipe.methods if ranking or m.name != RANKING)
    return recipe.model_copy(update={"specs": specs, "methods": methods})


def ranking_bars(
    line: Line,
    console: Console,
    widths: Sequence[int] = (8, 6, 4),
    draws: int = 3,
    images: int = 64,
    validation: int | None = None,
    order_images: int = 32,
) -> list[Bar]:
    """Measure both recipes at each width.

    Args:
        line: the ViT's run; nothing of its folder is used.
        console: for progress.
        widths: bits of weights and activations.
        draws: calibrations per recipe and width, each on other images.
        images: calibration images in each draw.
        validation: images that answers are judged on, evenly spaced; None for all.
        order_images: the first of these are used for the order of attention.

    Returns:
        Two bars for 8 and 6 bits; what other widths give stands in the last bar's remark.
    """
    learned, _ = _images(line, "calibration")
    shown, labels = _images(line, "validation")
    if validation is not None:
        chosen = torch.arange(min(validation, len(shown))) * len(shown) // min(validation, len(shown))
        shown, labels = shown[chosen], labels[chosen.numpy()]
    wanted = _answers(line.loaded.model, shown)
    bars: list[Bar] = []
    others = []
    for bits in widths:
        plain: list[Outcome] = []
        ranked: list[Outcome] = []
        for seed in range(draws):
            order = torch.randperm(len(learned), generator=torch.Generator().manual_seed(seed))
            draw = learned[order[:images]]
            for outcomes, ranking in ((plain, False), (ranked, True)):
                console.print(f"  {RANKING}: {bits} bits, draw {seed + 1}, {'with' if ranking else 'plain'}")
                recipe = ranking_recipe(bits, ranking)
                outcomes.append(_outcome(line, recipe, draw, shown, labels, wanted, order_images))
        remark = f"{draws} draws of {images} images; plain {_words(plain)}; ranking-aware {_words(ranked)}"
        if bits not in BARS:
            others.append(f"{bits} bits: {remark}")
            continue
        gains = [r.tau - p.tau for p, r in zip(plain, ranked, strict=True)]
        points = [r.top1 - p.top1 for p, r in zip(plain, ranked, strict=True)]
        what = f"ranking-aware against plain scale search, {bits} bits (simulated)"
        smallest = f"smallest of the draws {min(gains):+.4f}; {remark}"
        bars.append(Bar(f"{what}: Kendall τ gained", "at least", 0.0, mean(gains), "", 4, smallest))
        bars.append(Bar("… top-1 gained", "at least", 0.0, mean(points), " points"))
    if bars and others:
        last = bars.pop()
        bars.append(Bar(last.what, last.kind, last.limit, last.measured, last.unit, 2, "; ".join(others)))
    return bars


def _outcome(
    line: Line,
    recipe: Recipe,
    learned: Tensor,
    shown: Tensor,
    labels: NDArray[np.int64],
    wanted: NDArray[np.int64],
    order_images: int,
) -> Outcome:
    def spread(count: int | None) -> tuple[Tensor, ...]:
        number = len(learned) if count is None else min(count, len(learned))
        return torch.split(learned[torch.arange(number) * len(learned) // number], _BATCH)

    calibrated = calibrate(line.graph, recipe, spread)
    freeze(calibrated, Encoding())
    answers = _answers(calibrated.graph, shown)
    tau = attention_order(calibrated, torch.split(shown[:order_images], _BATCH))
    top1 = 100 * float(np.mean(answers == labels))
    return Outcome(mean(tau.values()), top1, 100 * agreement(answers, wanted))


@torch.no_grad()
def _answers(model: torch.nn.Module, images: Tensor) -> NDArray[np.int64]:
    answers: NDArray[np.int64] = torch.cat([model(x).argmax(1) for x in torch.split(images, _BATCH)]).numpy()
    return answers


def _images(line: Line, split: str) -> tuple[Tensor, NDArray[np.int64]]:
    """All of a split, [N, C, H, W], and their classes."""
    source = line.calibration if split == "calibration" else line.validation
    every = list(batches(source, line.loaded.preprocessing, _BATCH))
    labels: NDArray[np.int64] = torch.cat([batch.labels for batch in every]).numpy()
    return torch.cat([batch.images for batch in every]), labels


def _words(outcomes: Sequence[Outcome]) -> str:
    """Means, with the spread over draws."""
    parts = []
    for name, unit, digits in (("tau", "", 4), ("top1", " %", 1), ("agreement", " %", 1)):
        values = [float(getattr(outcome, name)) for outcome in outcomes]
        spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
        label = {"tau": "τ", "top1": "top-1"}.get(name, name)
        parts.append(f"{label} {mean(values):.{digits}f}{spread}{unit}")
    return ", ".join(parts)


def main() -> int:
    """Measure and print; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.ranking", description=__doc__)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--images", type=int, default=64, help="calibration images of a draw")
    parser.add_argument("--validation", type=int, help="evenly spaced validation images; all by default")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 4])
    options = parser.parse_args()
    line = Line(vit_config(), Path("runs/bars/ranking"))
    bars = ranking_bars(
        line,
        Console(stderr=True),
        options.bits,
        options.draws,
        options.images,
        options.validation,
    )
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(main())
