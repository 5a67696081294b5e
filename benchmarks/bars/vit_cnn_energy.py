"""``python -m benchmarks.bars.vit_cnn_energy``: what was published of CNNs at 8, 6 and 4 bits, on ResNet-56.

Published: top-1 changes by +0.05, −0.05 and −2.05 points, energy falls by 86, 90 and 94 %. Here the run
``resnet56`` of ``examples/vit_cnn_energy.yaml`` is done (calibrated on 512 images, judged on 5,000 others of
0.02 points each), and the most accurate recipe of each width is taken: a choice by those 5,000 themselves.
Energy is modelled, and what is saved depends on where the weights are: multiplying and adding alone; with all
weights on the chip (SRAM of 1 MiB); with each weight read from DRAM for each image. Activations are in SRAM.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.analyses.cells import CellsOptions, cells_of
from benchmarks.analyses.findings import FOLDER, Cell, read_findings
from benchmarks.bars.bar import Bar, in_one_line, print_bars, to_dicts
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.results import Summary, load_summary
from benchmarks.suite import begin, do_runs
from quant.errors import BadInput
from quant.recipe import parse

__all__ = ["PUBLISHED", "cnn_bars"]

SUITE = Path(__file__).resolve().parents[2] / "examples" / "vit_cnn_energy.yaml"
RUN = "resnet56"
PUBLISHED = {"8": (0.05, 86.0), "6": (-0.05, 90.0), "4": (-2.05, 94.0)}
"""By width: change of top-1 in points, and how much less energy in percent."""


def cnn_bars(summary: Summary, options: CellsOptions, on_chip: Mapping[str, float]) -> list[Bar]:
    """The bars of a run with the grid.

    Args:
        summary: of the run.
        options: of its analysis ``cells``.
        on_chip: how much less energy than FP32 in percent, with weights on the chip, by recipe.
    """
    found = cells_of(summary, "ort-x86", options)
    (best,) = (table for table in found.tables if table.name == "best")
    rows = {row[0]: dict(zip(best.columns, row, strict=True)) for row in best.rows}
    bars = []
    for bits, (points, percent) in PUBLISHED.items():
        row = rows[bits]
        figures = [row[column] for column in ("drop, points", "less than FP32, %", "arithmetic less, %")]
        drop, energy, arithmetic = (_number(figure, f"{bits} bits") for figure in figures)
        same = _number(row["same answer, %"], f"{bits} bits")
        remark = f"{row['recipe']}: {row['became right / wrong']} images, same answer {same:.2f} %"
        bars += [
            Bar(f"ResNet-56, {bits} bits: top-1 drop", "at most", -points, drop, " points", remark=remark),
            Bar("… energy of arithmetic, less than FP32", "at least", percent, arithmetic, " %", 1),
            Bar(
                "… and activations and weights from SRAM",
                "at least",
                percent,
                on_chip[str(row["recipe"])],
                " %",
                1,
            ),
            Bar("… weights from DRAM for each image", "at least", percent, energy, " %", 1),
        ]
    return bars


def _on_chip(folder: Path) -> dict[str, float]:
    """What the analysis ``energy_on_chip`` found, in percent."""
    variants: Any = read_findings(folder).figures["variants"]
    return {entry["recipe"]: 100 * entry["reduction"] for entry in variants.values()}


def _number(figure: Cell, what: str) -> float:
    if not isinstance(figure, float | int):
        raise BadInput(f"the run has no figures of ResNet-56 at {what}; do it again with another --out")
    return float(figure)


def main() -> int:
    """Do the run, print, and store ``vit_cnn_energy.json``; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.vit_cnn_energy", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bars/energy"), help="kept: a rerun resumes")
    out = parser.parse_args().out
    console = Console(stderr=True)
    lines = begin(SUITE, out, [RUN])
    do_runs(lines, lambda text: console.print(f"  {text}", style="dim"))
    (line,) = lines
    (entry,) = (entry for entry in line.config.analyses if entry.name == "cells")
    summary = load_summary(line.workspace.path("summary.json"))
    on_chip = _on_chip(line.workspace.path(f"{FOLDER}/energy_on_chip"))
    bars = cnn_bars(summary, parse(CellsOptions, entry.options, "cells"), on_chip)
    about = {"environment": asdict(describe_environment()), "bars": to_dicts(bars)}
    write_text(out / "vit_cnn_energy.json", json.dumps(about, indent=2))
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(in_one_line("vit_cnn_energy", main))
