"""``python -m benchmarks.bars.ablation --row w4a8``: where a recipe loses what it loses.

The row's recipe is calibrated without the methods that train the model as a whole, so that every layer's
weights still stand for themselves. Then one part after another (all weights, the inputs of every ``fc2``,
block 3 …) is quantized alone, in the float model, and the noise it adds to the logits is measured. With z the
float logits and z_p those with part p quantized,

    share_p = Σ ‖z_p − z‖² / Σ ‖z_all − z‖²

The shares of one partition (weights and inputs; kinds of layer; blocks) sum to about 1 where errors are
independent, and to less where they amplify each other. Everything is the fake-quant model in PyTorch.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.bars.recipe_rows import ROWS, config_of
from benchmarks.metrics import agreement, sqnr_db
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line
from quant.calibrate import calibrate
from quant.calibrated import CalibratedGraph
from quant.data.batches import batches
from quant.encoding import Encoding, freeze, set_quantizing
from quant.graph.nodes import constant_name, tensor_of
from quant.graph.parameters import set_parameter
from quant.placement import Site
from quant.progress import Progress, silent
from quant.recipe import Recipe

__all__ = ["Loss", "ablate", "parts_of", "untrained"]

TRAINING = ("fine_tune", "reconstruct")
_BATCH = 16
_BLOCK = re.compile(r"^(?:.*\.)?(?:blocks|layers?\d*)\.\d+")


@dataclass(frozen=True)
class Loss:
    """What one part, quantized alone, does to the logits.

    Attributes:
        part: in words.
        sites: fake-quant layers in it.
        share: of the noise that all parts together make.
        sqnr: of the logits, in dB.
        agreement: with the float model's answers, in percent.
    """

    part: str
    sites: int
    share: float
    sqnr: float
    agreement: float


def untrained(recipe: Recipe) -> Recipe:
    """The recipe without the methods that train the model as a whole."""
    return recipe.model_copy(update={"methods": tuple(m for m in recipe.methods if m.name not in TRAINING)})


def parts_of(sites: Sequence[Site]) -> dict[str, list[Site]]:
    """The parts to be quantized alone: everything, then by operand, by kind of layer and by block."""
    parts: dict[str, list[Site]] = {"everything": list(sites)}
    for site in sites:
        operand = "weights" if site.is_weight else "inputs"
        parts.setdefault(operand, []).append(site)
    for site in sites:
        operand = "weights" if site.is_weight else "inputs"
        parts.setdefault(f"{operand} of {site.layer.rpartition('.')[2]}", []).append(site)
    for site in sites:
        block = _BLOCK.match(site.layer)
        parts.setdefault(block[0] if block else site.layer, []).append(site)
    return parts


@torch.no_grad()
def ablate(calibrated: CalibratedGraph, images: Sequence[Tensor], progress: Progress = silent) -> list[Loss]:
    """Quantize each of :func:`parts_of` alone.

    A part's layers have the weights that tuning gave them. All other weights are those of the float model,
    and so are all biases: what corrects the sum of all errors would be an error where there is but one.

    Args:
        calibrated: changed meanwhile, left quantizing as a whole.
        images: batches [B, C, H, W].
        progress: told parts as they are done.
    """
    wanted = _logits(calibrated.reference, images)
    noise: dict[str, float] = {}
    losses = []
    parts = parts_of(calibrated.sites)
    for part, sites in parts.items():
        with_part = _quantized_alone(calibrated, sites, images)
        noise[part] = float(np.square(with_part - wanted, dtype=np.float64).sum())
        share = noise[part] / noise["everything"] if noise["everything"] else 0.0
        same = 100 * agreement(with_part.argmax(1), wanted.argmax(1))
        losses.append(Loss(part, len(sites), share, sqnr_db(wanted, with_part), same))
        progress("quantizing parts alone", len(losses), len(parts))
    _quantized_alone(calibrated, calibrated.sites, images[:1])
    return losses


def table_of(losses: Iterable[Loss], title: str) -> Table:
    """One line per part."""
    table = Table(title=title)
    for heading in ("Quantized alone", "Share of the noise", "SQNR", "Agreement"):
        table.add_column(heading, justify="left" if heading.startswith("Q") else "right")
    for loss in losses:
        table.add_row(
            loss.part, f"{100 * loss.share:.1f} %", f"{loss.sqnr:.2f} dB", f"{loss.agreement:.1f} %"
        )
    return table


def _quantized_alone(
    calibrated: CalibratedGraph, sites: Sequence[Site], images: Sequence[Tensor]
) -> NDArray[np.float32]:
    tuned = calibrated.changes.parameters
    values = tuned
    if len(sites) < len(calibrated.sites):
        kept = {constant_name(site.node.args[0]) for site in sites if site.is_weight}
        values = {n: value if n in kept else tensor_of(calibrated.reference, n) for n, value in tuned.items()}
    frozen = freeze(calibrated, Encoding())
    set_quantizing(calibrated, {site.name: frozen[site.name] for site in sites})
    for name, value in values.items():
        set_parameter(calibrated.graph, name, value.detach().clone())
    return _logits(calibrated.graph, images)


def _logits(model: torch.nn.Module, images: Sequence[Tensor]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = torch.cat([model(batch) for batch in images]).numpy()
    return found


def main() -> int:
    """Calibrate, ablate, print."""
    rows = {row.name: row for row in ROWS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.ablation", description=__doc__)
    parser.add_argument("--row", choices=sorted(rows), required=True)
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--images", type=int, default=64, help="evenly spaced validation images")
    options = parser.parse_args()
    row = rows[options.row]
    line = Line(config_of(row, options.draw), Path("runs/bars/ablation"))
    learned = calibration_batches(line.calibration, line.loaded.preprocessing, _BATCH)
    shown = Spread(line.validation, options.images)
    (recipe,) = line.recipes
    with Console(stderr=True).status(row.name) as status:

        def show(phase: str, done: int, total: int) -> None:
            status.update(f"{row.name}: {phase}, {done} of {total or 'all'}")

        calibrated = calibrate(line.graph, untrained(recipe), learned, show)
        images = [batch.images for batch in batches(shown, line.loaded.preprocessing, _BATCH)]
        losses = ablate(calibrated, images, show)
    trained = [m.name for m in recipe.methods if m.name in TRAINING]
    before = f", before {' and '.join(trained)}" if trained else ""
    Console().print(table_of(losses, row.title + before))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
