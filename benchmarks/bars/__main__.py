"""``python -m benchmarks.bars``: measure every bar and print the table."""

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks.bars.bar import Bar, print_bars, to_dicts
from benchmarks.bars.calibration_cost import memory_bar, time_bar
from benchmarks.bars.runs import do_run, resnet_bars, resnet_config, vit_bars, vit_config
from benchmarks.environment import describe_environment
from benchmarks.files import write_text

RESNETS = (20, 56)
MODELS = ("fp32/model.onnx", "int8/qdq.onnx", "int8-ort-x86/model.onnx")


def main() -> int:
    """Measure, print, and store ``bars.json``; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bars"), help="kept, so that a rerun resumes")
    out = parser.parse_args().out
    console = Console(stderr=True)
    line = do_run(vit_config(), out / "vit_tiny", console)
    bars = vit_bars(out / "vit_tiny")
    for depth in RESNETS:
        do_run(resnet_config(depth), out / f"resnet{depth}", console)
        bars += resnet_bars(out / f"resnet{depth}", depth)
    console.print("  calibration: time", style="dim")
    bars.append(time_bar(line))
    console.print("  calibration: memory", style="dim")
    bars.append(memory_bar())
    bars.append(_repeat(out, console))
    environment = asdict(describe_environment())
    write_text(out / "bars.json", json.dumps({"environment": environment, "bars": to_dicts(bars)}, indent=2))
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


def _repeat(out: Path, console: Console) -> Bar:
    """Quantize, export and lower once more, in an empty folder, and compare the files' bytes."""
    shutil.rmtree(out / "again", ignore_errors=True)
    do_run(vit_config().model_copy(update={"recipe": ("int8",)}), out / "again", console, until="lower")
    different = [m for m in MODELS if (out / "vit_tiny" / m).read_bytes() != (out / "again" / m).read_bytes()]
    remark = "fp32, canonical and lowered file" if not different else ", ".join(different)
    return Bar("same input twice: files that differ", "at most", 0, len(different), digits=0, remark=remark)


if __name__ == "__main__":
    raise SystemExit(main())
