"""``python -m benchmarks.bars.awq``: what activation-aware weight quantization promises, on both models.

The runs of ``examples/awq_mlp.yaml`` are done. At 4 bits AWQ's output error must be below plain rounding's in
every layer (alone, on its input in the float model; validation images, which no method has seen), and the
digits must keep their accuracy. ViT-Tiny's linear layers must become as much smaller as is claimed of 8 and
4 bits, scales and zero points included, by the bytes of the exported file.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.analyses.findings import read_findings
from benchmarks.bars.bar import Bar, in_one_line, print_bars, to_dicts
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.results import Summary, load_summary
from benchmarks.suite import begin, do_runs

__all__ = ["accuracy_bars", "error_bars", "file_bars", "size_bars"]

SUITE = Path(__file__).resolve().parents[2] / "examples" / "awq_mlp.yaml"
DIGITS, VIT = "digits", "vit_tiny"
DROP = 0.3  # points
EIGHT, FOUR = (3.5, 4.0), 6.5  # times smaller than float32

Figures = Mapping[str, Any]
"""By recipe, what the analysis ``weight_only`` found."""


def error_bars(model: str, found: Figures) -> list[Bar]:
    """For each 4-bit format: in how many layers AWQ's output error is below plain rounding's."""
    bars = []
    for name in (name for name in found if name.startswith("awq_w4_")):
        plain = found[name.replace("awq", "rtn", 1)]["layers"]
        ratios = {
            layer: own["output_error"] / plain[layer]["output_error"]
            for layer, own in found[name]["layers"].items()
        }
        worst = max(ratios, key=ratios.__getitem__)
        below = sum(ratio < 1 for ratio in ratios.values())
        remark = f"{min(ratios.values()):.3f} to {ratios[worst]:.3f} times plain rounding's, most at {worst}"
        what = f"{model}, {name}: layers with less output error than plain rounding"
        bars.append(Bar(what, "at least", len(ratios), below, f" of {len(ratios)}", 0, remark))
    return bars


def accuracy_bars(model: str, found: Figures, summary: Summary) -> list[Bar]:
    """What AWQ costs in top-1."""
    by_name = {variant.name.rpartition("-ort-")[0]: variant for variant in summary.variants}
    base = summary.base.accuracy
    assert base is not None
    bars = []
    for name in (name for name in found if name.startswith("awq_w")):
        own = by_name[name].accuracy
        assert own is not None
        drop = 100 * (base.top1 - own.top1)
        remark = f"{own.correct} of {own.n} right, FP32 {base.correct}"
        bars.append(Bar(f"{model}, {name}: top-1 drop", "at most", DROP, drop, " points", remark=remark))
    return bars


def size_bars(model: str, found: Figures) -> list[Bar]:
    """How many times smaller the linear layers are, of each width with the largest groups."""
    sizes = {bits: _smallest(found, f"awq_w{bits}_") for bits in (8, 4)}
    (eight, eight_times), (four, four_times) = sizes[8], sizes[4]
    others = (f"{n}: {f['smaller']:.2f}×" for n, f in found.items() if n.startswith("awq_w4_") and n != four)
    return [
        Bar(f"{model}, {eight}: linear layers smaller", "at least", EIGHT[0], eight_times, "×"),
        Bar("… and not more than codes without scales could be", "at most", EIGHT[1], eight_times, "×"),
        Bar(
            f"{model}, {four}: linear layers smaller",
            "at least",
            FOUR,
            four_times,
            "×",
            remark=", ".join(others),
        ),
    ]


def file_bars(model: str, found: Figures) -> list[Bar]:
    """Whether files hold what formats promise, and whether all of it is run as MatMulNBits."""
    layers = [layer for own in found.values() for layer in own["layers"].values()]
    different = sum(layer["bytes"] != layer["format_bytes"] for layer in layers)
    packed = sum(own["executed"] or 0 for own in found.values())
    total = len(layers)
    remark = f"{len(found)} recipes"
    return [
        Bar(
            f"{model}: layers whose bytes in the file are not the format's", "at most", 0, different, digits=0
        ),
        Bar(
            "… that ONNX Runtime executes as MatMulNBits",
            "at least",
            total,
            packed,
            f" of {total}",
            0,
            remark,
        ),
    ]


def _smallest(found: Figures, prefix: str) -> tuple[str, float]:
    sizes = {name: float(own["smaller"]) for name, own in found.items() if name.startswith(prefix)}
    name = max(sizes, key=sizes.__getitem__)
    return name, sizes[name]


def _bars(names: Sequence[str], folders: Mapping[str, Path]) -> list[Bar]:
    bars: list[Bar] = []
    for name in names:
        found: Any = read_findings(folders[name] / "analyses/weight_only").figures
        bars += error_bars(name, found)
        if name == DIGITS:
            bars += accuracy_bars(name, found, load_summary(folders[name] / "summary.json"))
        else:
            bars += size_bars(name, found)
        bars += file_bars(name, found)
    return bars


def main() -> int:
    """Do the runs, print, and store ``awq.json``; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.awq", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bars/awq"), help="kept: a rerun resumes")
    parser.add_argument("--only", action="append", choices=(DIGITS, VIT), help="one of the runs")
    options = parser.parse_args()
    console = Console(stderr=True)
    names = options.only or [DIGITS, VIT]
    lines = begin(SUITE, options.out, names)
    do_runs(lines, lambda text: console.print(f"  {text}", style="dim"))
    bars = _bars(names, {line.workspace.root.name: line.workspace.root for line in lines})
    about = {"environment": asdict(describe_environment()), "bars": to_dicts(bars)}
    write_text(options.out / "awq.json", json.dumps(about, indent=2))
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(in_one_line("awq", main))
