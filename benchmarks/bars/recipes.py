"""``python -m benchmarks.bars.recipes``: measure what every shipped recipe promises, and print the table.

Every figure is that of ONNX Runtime running the exported file, except where the table says simulated. Draws
are calibrations on different images; the table gives mean and spread over them.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy import Predictions, collect, score
from benchmarks.bars.bar import Bar, print_bars, to_dicts
from benchmarks.bars.outcome import Outcome, mixed_bar, reached
from benchmarks.bars.ranking import ranking_bars
from benchmarks.bars.recipe_rows import ROWS, Row, config_of
from benchmarks.bars.runs import vit_config
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.stages import STAGES, do_stage
from deploy.onnxruntime.run import OrtRunner
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.line import Line, variant_name
from quant.data.batches import Batch, batches
from quant.encoding import Encoding, freeze

BATCH = 16
RANKING = "ranking"


def main() -> int:
    """Measure, print, and store ``recipes.json``; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.recipes", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bars/recipes"), help="kept: a rerun resumes")
    parser.add_argument("--rows", help="comma-separated names; all by default")
    parser.add_argument("--draws", type=int, help="at most this many calibrations per row")
    arguments = parser.parse_args()
    known = [*(row.name for row in ROWS), RANKING]
    names = known if arguments.rows is None else arguments.rows.split(",")
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"unknown rows {', '.join(unknown)}; known: {', '.join(known)}")
    console = Console(stderr=True)
    found: dict[str, list[Outcome]] = {}
    for row in ROWS:
        if row.name in names:
            draws = min(row.draws, arguments.draws or row.draws)
            found[row.name] = [_draw(row, draw, arguments.out, console) for draw in range(draws)]
    rows = [row for row in ROWS if row.name in found]
    stored = {name: [asdict(o) for o in outcomes] for name, outcomes in found.items()}
    bars = [mixed_bar(found["w6a6"], found["mixed6"])] if {"w6a6", "mixed6"} <= set(found) else []
    if RANKING in names:
        bars += _ranking(arguments.out / "ranking.json", console, arguments.draws)
    about = {"environment": asdict(describe_environment()), "rows": stored, "bars": to_dicts(bars)}
    write_text(arguments.out / "recipes.json", json.dumps(about, indent=2))
    Console().print(table_of(rows, found))
    if bars:
        print_bars(bars, Console())
    kept = all(reached(limit, found[row.name]) for row in rows for limit in row.limits)
    return 0 if kept and all(bar.reached for bar in bars) else 1


def table_of(rows: Sequence[Row], found: dict[str, list[Outcome]]) -> Table:
    """One line per row, its bars behind the figures."""
    table = Table(title="Recipes")
    for heading in ("Recipe", "Draws", "Top-1 drop", "Top-1", "Agreement", "SQNR", "Quantize", "Bars"):
        table.add_column(heading)
    for row in rows:
        outcomes = found[row.name]
        verdicts = [
            f"{limit.figure} {'≥' if limit.kind == 'at least' else '≤'} {limit.value:g}: "
            + ("[green]reached[/green]" if reached(limit, outcomes) else "[red]missed[/red]")
            for limit in row.limits
        ]
        simulated = " [dim](simulated)[/dim]" if row.full_weights else ""
        table.add_row(
            f"{row.title}{simulated}\n[dim]{row.recipe}[/dim]",
            str(len(outcomes)),
            _figures(outcomes, "drop", " points"),
            _figures(outcomes, "top1", " %"),
            _figures(outcomes, "agreement", " %"),
            _figures(outcomes, "sqnr", " dB"),
            _figures(outcomes, "seconds", " s", digits=0),
            "\n".join(verdicts) or "—",
        )
    return table


def _figures(outcomes: Sequence[Outcome], figure: str, unit: str, digits: int = 2) -> str:
    """Mean, and the smallest and largest where there are several."""
    values = [float(getattr(outcome, figure)) for outcome in outcomes]
    text = f"{mean(values):.{digits}f}{unit}"
    if len(values) > 1:
        text += f"\n[dim]{min(values):.{digits}f} to {max(values):.{digits}f}[/dim]"
    return text


def _ranking(file: Path, console: Console, draws: int | None) -> list[Bar]:
    """The bars of ranking-aware scales, now or as they were stored."""
    if file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        return [Bar(**{name: value for name, value in bar.items() if name != "reached"}) for bar in known]
    bars = ranking_bars(Line(vit_config(), file.parent / RANKING), console, draws=min(3, draws or 3))
    write_text(file, json.dumps(to_dicts(bars), indent=2))
    return bars


def _draw(row: Row, draw: int, out: Path, console: Console) -> Outcome:
    """Do one draw's run, or read what is known of it."""
    folder = out / (row.name.removesuffix("_full") if row.full_weights else row.name) / f"draw{draw}"
    line = Line(config_of(row, draw), folder)
    seconds = _seconds(line, folder, console)
    for stage in ("export",) if row.full_weights else ("export", "lower"):
        do_stage(line, stage, lambda text: console.print(f"  {row.name} {draw}: {text}", style="dim"))
    (recipe,), (target,) = line.recipes, line.targets
    reference = _run(line, line.workspace.path(FLOAT_FILE))
    if row.full_weights:
        predictions = _simulate(line)
    else:
        predictions = _run(line, line.workspace.path(f"{variant_name(recipe, target)}/model.onnx"))
    result = score(predictions, reference)
    base = score(reference)
    assert result.agreement is not None
    assert result.sqnr_db is not None
    outcome = Outcome(
        drop=100 * (base.top1 - result.top1),
        top1=100 * result.top1,
        agreement=100 * result.agreement,
        sqnr=result.sqnr_db,
        seconds=seconds,
        reference_top1=100 * base.top1,
        correct=result.correct,
        images=result.n,
    )
    console.print(f"  {row.name} {draw}: {outcome}", style="dim")
    return outcome


def _seconds(line: Line, folder: Path, console: Console) -> float:
    """Do the stage `quantize` and say how long it took, now or when it was done."""
    file = folder / "seconds.json"
    known = file.read_text(encoding="utf-8") if file.is_file() else None
    _ = line.graph, line.calibration  # not part of the time
    start = time.perf_counter()
    done = [line.workspace.do(step) for step in STAGES["quantize"](line)]
    seconds = time.perf_counter() - start
    if known is not None and not any(done):
        return float(json.loads(known))
    console.print(f"  {folder.parent.name} {folder.name}: quantized in {seconds:.0f} s", style="dim")
    write_text(file, json.dumps(round(seconds, 1)))
    return seconds


def _run(line: Line, model: Path) -> Predictions:
    with OrtRunner(model) as runner:
        return collect(runner, _validation(line), title=model.parent.name, total=len(line.validation))


def _validation(line: Line) -> list[Batch]:
    return list(batches(line.validation, line.loaded.preprocessing, BATCH))


@torch.no_grad()
def _simulate(line: Line) -> Predictions:
    """The fake-quant model in the recipe's own formats."""
    calibrated = line.calibrated(line.recipes[0])
    freeze(calibrated, Encoding())
    found = [
        (calibrated.graph(batch.images).numpy(), np.asarray(batch.labels)) for batch in _validation(line)
    ]
    return Predictions(np.concatenate([o for o, _ in found]), np.concatenate([y for _, y in found]))


if __name__ == "__main__":
    raise SystemExit(main())
