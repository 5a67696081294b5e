"""``python -m benchmarks.bars.speed``: is INT8 faster, and can the comparison be trusted?

ViT-Tiny and ResNet-56 are measured several times over, everything from new processes each time.
"""

import argparse
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from rich.console import Console

from benchmarks.bars.bar import Bar, print_bars, to_dicts
from benchmarks.bars.overhead import overhead_bar
from benchmarks.bars.runs import do_run, resnet_config, vit_config
from benchmarks.bars.trust import together_bars, trust_bars
from benchmarks.choose import Budget, choose
from benchmarks.compare.together import time_together
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.report.comparison import entry
from benchmarks.results import Summary, load_summary, save_summary
from benchmarks.run_variants import PLAIN
from benchmarks.stages import do_stage
from deploy.pipeline.config import RunConfig
from deploy.pipeline.line import Line

__all__ = ["main"]

INT8, FAST = "int8-ort-x86", "int8_fast-ort-x86"


def main() -> int:
    """Measure, print, and store ``speed.json``; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.speed", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bars/speed"), help="kept; a rerun resumes")
    parser.add_argument("--times", type=int, default=3, help="how often each model is measured")
    parser.add_argument("--pairs", type=int, default=10, help="how often each is compared with itself")
    given = parser.parse_args()
    console = Console(stderr=True)
    vit, resnet = vit_config(), resnet_config(56)
    vit = vit.model_copy(update={"recipe": ("int8", "int8_fast")})
    resnet = resnet.model_copy(update={"bench": resnet.bench.model_copy(update={"batch_sizes": (1, 32)})})
    configs = {"vit_tiny": vit, "resnet56": resnet}
    runs = {name: _measured(c, given.out / name, given.times, console) for name, c in configs.items()}
    pairs = [
        pair
        for name, config in configs.items()
        for pair in _pairs(Line(config, given.out / name), runs[name][0], given.pairs)
    ]
    vits, resnets = runs["vit_tiny"], runs["resnet56"]
    bars = [
        _ratio("ViT-Tiny INT8 (int8_fast) over FP32, both at their best graph", vits, FAST, 1, 1.5),
        _best_graph(vits),
        *(_resnet(resnets, batch) for batch in (1, 32)),
        *trust_bars(runs),
        *together_bars(pairs),
        overhead_bar(),
    ]
    environment = asdict(describe_environment())
    content = {"environment": environment, "bars": to_dicts(bars)}
    write_text(given.out / "speed.json", json.dumps(content, indent=2))
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


def _measured(config: RunConfig, folder: Path, times: int, console: Console) -> list[Summary]:
    def say(text: str) -> None:
        console.print(f"  {folder.name}: {text}", style="dim")

    line = do_run(config, folder, console, until="audit")
    found = []
    for i in range(times):
        file = folder / f"summary-{i}.json"
        if not file.is_file():
            do_stage(line, "bench", say, force=True)
            shutil.copyfile(folder / "summary.json", file)
        found.append(load_summary(file))
    return found


def _pairs(line: Line, summary: Summary, count: int) -> list[tuple[Summary, Summary]]:
    """The run compared with itself, at batch 1; measured pairs are kept."""
    one = line.config.bench.model_copy(update={"batch_sizes": (1,)})
    line = Line(line.config.model_copy(update={"bench": one}), line.workspace.root)
    found = []
    for i in range(count):
        files = [line.workspace.path(f"pair-{i}-{side}.json") for side in ("base", "new")]
        if not all(file.is_file() for file in files):
            for side, file in zip(time_together((line, summary), (line, summary)), files, strict=True):
                save_summary(side, file)
        found.append((load_summary(files[0]), load_summary(files[1])))
    return found


def _ratio(what: str, runs: Sequence[Summary], variant: str, batch: int, limit: float) -> Bar:
    """The speed-up, its geometric mean over the runs."""
    found = [_speedup(summary, variant, batch) for summary in runs]
    remark = f"{', '.join(f'{value:.3f}' for value in found)}; batch {batch}, one thread"
    if variant == FAST:
        remark += f"; int8: {_mean([_speedup(summary, INT8, batch) for summary in runs]):.3f}"
    return Bar(what, "at least", limit, _mean(found), "×", remark=remark)


def _best_graph(runs: Sequence[Summary]) -> Bar:
    found = [1 / _speedup(summary, PLAIN, 1) for summary in runs]
    remark = f"{', '.join(f'{value:.3f}' for value in found)}; batch 1, one thread"
    return Bar(
        "… FP32's best graph over the plain export", "at least", 1.05, _mean(found), "×", remark=remark
    )


def _resnet(runs: Sequence[Summary], batch: int) -> Bar:
    """INT8 is worth it, or `choose` does not choose it."""
    bar = _ratio(f"ResNet-56 INT8 over FP32, batch {batch}", runs, INT8, batch, 1.2)
    if bar.reached or any(choose(s, Budget(), batch)[0].name == INT8 for s in runs):
        return bar
    return Bar(bar.what, "at least", 0, bar.measured, "×", remark=f"{bar.remark}; `choose` says FP32")


def _speedup(summary: Summary, name: str, batch: int) -> float:
    variant = next(v for v in summary.variants if v.name == name)
    latency = entry(variant, (batch, 1))
    assert latency is not None
    assert latency.speedup is not None
    return latency.speedup.value


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(fmean(map(math.log, ratios)))


if __name__ == "__main__":
    raise SystemExit(main())
