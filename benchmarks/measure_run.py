"""The last stage of a run: measure its variants into ``summary.json``."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import score
from benchmarks.bench import bench_accuracy, bench_speed
from benchmarks.environment import describe_environment
from benchmarks.latency import Noise
from benchmarks.multilabel import score_bits
from benchmarks.recorded import check_float
from benchmarks.results import Summary, Variant, save_summary
from benchmarks.run_load import check_load, run_load
from benchmarks.run_variants import bench_settings, candidates, float_lowerings, lowered, simulated, variants
from deploy.cpu import cpu_info
from deploy.pipeline.audit import is_audited
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.images import source_identity
from deploy.pipeline.line import CONFIG, FLOAT, Line
from deploy.pipeline.workspace import Step
from quant.data.batches import Batch, batches

__all__ = ["SUMMARY", "bench_steps"]

SUMMARY = "summary.json"


def bench_steps(line: Line) -> list[Step]:
    """One for the whole run: variants are timed against each other."""
    step = Step("bench", partial(_inputs, line), (SUMMARY,), partial(_bench, line), ("benchmarks", "deploy"))
    return [step]


def _inputs(line: Line) -> Any:
    files = [FLOAT_FILE, *float_lowerings(line)]
    for name, target, _ in lowered(line):
        files += [f"{name}/{file}" for file in ("model.onnx", "parity.json")]
        files += [f"{name}/audit.json"] if is_audited(target) else []
    return {
        "files": {name: line.workspace.sha256(name) for name in files},
        "images": source_identity(line.config.validation, line.validation),
        "preprocessing": line.loaded.preprocessing.to_metadata(),
        "settings": line.config.bench.model_dump(mode="json"),
        "task": line.config.task,
        "cpu": asdict(cpu_info()),
    }


def _bench(line: Line, folder: Path) -> None:
    check_load(line)
    measured, settings = candidates(line), bench_settings(line)
    size = line.batch_size(line.config.bench.accuracy_batch)

    def images() -> Iterator[Batch]:
        return batches(line.validation, line.loaded.preprocessing, size)

    judged, total = [*measured, *simulated(line)], len(line.validation)
    judge = score_bits if line.config.task == "multilabel" else score
    accuracy = bench_accuracy(judged, images, settings, reference=FLOAT, judge=judge, total=total)
    if line.config.bench.recorded_top1 is not None:
        check_float(line, accuracy[FLOAT], line.config.bench.recorded_top1)
    some = np.asarray(next(iter(images())).images, dtype=np.float32)
    speed = bench_speed(measured, some, settings, reference=FLOAT)
    load = run_load(line, measured, some, speed)
    save_summary(_summary(line, variants(line, accuracy, speed, load), speed.noise), folder / SUMMARY)


def _summary(line: Line, found: tuple[Variant, ...], noise: tuple[Noise, ...]) -> Summary:
    root = line.workspace.root
    return Summary(
        created=datetime.now(UTC),
        command=f"octavo run {root / CONFIG} --out {root}",
        model=line.config.model.name,
        recipe=", ".join(recipe.name for recipe in line.recipes),
        data=line.validation_in_words,
        preprocessing=json.loads(line.loaded.preprocessing.to_metadata()),
        reference=FLOAT,
        environment=describe_environment(),
        settings=line.config.model_dump(mode="json", exclude_none=True),
        variants=found,
        noise=noise,
    )
