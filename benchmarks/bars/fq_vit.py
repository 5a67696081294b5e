"""``python -m benchmarks.bars.fq_vit``: FQ-ViT's claims and its ablation, on ViT-Tiny.

Does ``examples/fq_vit.yaml``, or reads what such a run left; needs the data folder. The published project
lost 1.25 points of top-1 (81.09 to 79.84) and had a logit cosine of 95.5 % and a mean layer QSNR of 10.47 dB.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks.analyses.findings import FOLDER, Findings, read_findings
from benchmarks.bars.bar import Bar, print_bars, to_dicts
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.suite import begin, do_runs
from deploy.markdown import markdown_table
from quant.errors import BadInput, Unsupported

__all__ = ["EXAMPLE", "PUBLISHED", "ablation_bars", "deploy_bars", "full_bars", "main", "table_of"]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fq_vit.yaml"
PUBLISHED = {"drop": 1.25, "cosine": 95.5, "qsnr": 10.47}
"""Points, %, dB."""
DROP, COSINE = 0.6, 99.5
GAIN, LOG2_GAIN = 10.0, 50.0
"""Points of top-1. FQ-ViT publishes of ViT-B: 83.31 over 73.39 % for the best observer alone, and 83.23 over
9.53 % for 4-bit log2 codes over uniform ones."""

Figures = Mapping[str, Mapping[str, float]]
_NEEDED = ("top1", "drop", "agreement", "cosine", "layer_qsnr_db")


def main() -> int:
    """Measure, print, and store ``fq_vit.json``; returns 1 when a bar is missed, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.fq_vit", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/fq_vit"), help="kept: a rerun resumes")
    parser.add_argument("--read", action="store_true", help="take the run in --out as it is")
    parser.add_argument("--only", choices=RUNS, action="append", help="one of the runs; all by default")
    arguments = parser.parse_args()
    wanted = [name for name in RUNS if name in (arguments.only or RUNS)]
    out, console = arguments.out, Console(stderr=True)
    try:
        if not arguments.read:
            do_runs(begin(EXAMPLE, out, wanted), lambda text: console.print(f"  {text}", style="dim"))
        found = {name: read_findings(out / name / FOLDER / "observers") for name in wanted}
        bars = [bar for name, part in found.items() for bar in RUNS[name](_figures(part))]
    except (BadInput, Unsupported) as error:
        print(f"fq_vit: {error}", file=sys.stderr)
        return 2
    about = {"environment": asdict(describe_environment()), "bars": to_dicts(bars)}
    write_text(out / "fq_vit.json", json.dumps(about, indent=1))
    for name, findings in found.items():
        print(f"{name}\n\n{table_of(findings)}\n")
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


def deploy_bars(figures: Figures) -> list[Bar]:
    """The bars of the run `deploy`.

    Args:
        figures: of its analysis ``observers`` by recipe, shares from 0 to 1.
    """
    int8 = figures["int8"]
    return [
        Bar("int8: top-1 drop", "at most", DROP, 100 * int8["drop"], " points", remark=_published("drop")),
        Bar(
            "int8: logit cosine", "at least", COSINE, 100 * int8["cosine"], " %", remark=_published("cosine")
        ),
        Bar(
            "int8: mean QSNR of layers",
            "at least",
            PUBLISHED["qsnr"],
            int8["layer_qsnr_db"],
            " dB",
            remark=_published("qsnr"),
        ),
    ]


def full_bars(figures: Figures) -> list[Bar]:
    """The bars of the run `full`; ``figures`` as in :func:`deploy_bars`."""
    full = figures["fq_vit"]
    own = f"asked of INT8: drop {DROP:g}, cosine {COSINE:g} %; agreement {100 * full['agreement']:.1f} %"
    return [
        Bar(
            "fq_vit, fully quantized: top-1 drop",
            "at most",
            PUBLISHED["drop"],
            100 * full["drop"],
            " points",
            remark=own,
        ),
        Bar("… logit cosine", "at least", PUBLISHED["cosine"], 100 * full["cosine"], " %"),
        Bar("… mean QSNR of layers", "at least", PUBLISHED["qsnr"], full["layer_qsnr_db"], " dB"),
    ]


def ablation_bars(figures: Figures) -> list[Bar]:
    """The bars of the run `ablation`; ``figures`` as in :func:`deploy_bars`."""
    full = figures["fq_vit"]["top1"]
    layered = {name: row["top1"] for name, row in figures.items() if name.endswith("_layer")}
    best = max(layered, key=lambda name: layered[name])
    log2, uniform = figures["ptf_log2_4"]["top1"], figures["ptf_uniform4"]["top1"]
    return [
        Bar(
            "fq_vit: top-1 above the best observer, all scales layer-wise",
            "at least",
            GAIN,
            100 * (full - layered[best]),
            " points",
            remark=f"{100 * full:.1f} %; {best}: {100 * layered[best]:.1f} %",
        ),
        Bar(
            "4-bit attention weights: top-1 of log2 above uniform",
            "at least",
            LOG2_GAIN,
            100 * (log2 - uniform),
            " points",
            remark=f"{100 * log2:.1f} % and {100 * uniform:.1f} %",
        ),
    ]


def table_of(found: Findings) -> str:
    """The table of the analysis in Markdown."""
    (table,) = found.tables
    rows = [
        ["–" if cell is None else f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row]
        for row in table.rows
    ]
    return markdown_table(table.columns, rows)


def _figures(found: Findings) -> Figures:
    """Figures by recipe, all of them numbers.

    Raises:
        BadInput: one was not measured.
    """
    rows: dict[str, dict[str, float]] = {}
    for recipe, row in found.figures.items():
        known = row.items() if isinstance(row, dict) else ()
        rows[recipe] = {name: float(value) for name, value in known if isinstance(value, int | float)}
        if missing := sorted(set(_NEEDED) - set(rows[recipe])):
            raise BadInput(f"the run has no {', '.join(missing)} of {recipe}; do it again")
    return rows


def _published(figure: str) -> str:
    return f"published: {PUBLISHED[figure]:g}"


RUNS: Mapping[str, Callable[[Figures], list[Bar]]] = {
    "ablation": ablation_bars,
    "full": full_bars,
    "deploy": deploy_bars,
}
"""Run of the example to its bars."""


if __name__ == "__main__":
    raise SystemExit(main())
