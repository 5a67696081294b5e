"""The last two stages of a run: measure its variants into ``summary.json``, and show that to people."""

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.bench import BenchSettings, Candidate, bench_variants, file_size
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.latency import LatencySettings
from benchmarks.report.html import html_summary
from benchmarks.report.markdown import markdown_summary
from benchmarks.report.terminal import print_summary
from benchmarks.results import Summary, Variant, load_summary, save_summary
from deploy.cpu import cpu_info
from deploy.onnxruntime.build import SessionSettings
from deploy.pipeline.audit import is_audited
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.images import source_identity
from deploy.pipeline.line import CONFIG, FLOAT, Line, variant_name
from deploy.pipeline.workspace import Step
from quant.data.batches import Batch, batches

__all__ = ["SUMMARY", "bench_steps", "report"]

SUMMARY = "summary.json"
_NOT_RUN = "exported and checked; not run here"
_RUN_ON = {"ort-x86": ("x86_64", "AMD64"), "ort-arm64": ("aarch64", "arm64")}


def bench_steps(line: Line) -> list[Step]:
    """One for the whole run: variants are timed against each other."""
    step = Step("bench", partial(_inputs, line), (SUMMARY,), partial(_bench, line), ("benchmarks", "deploy"))
    return [step]


def report(root: Path, console: Console) -> Summary:
    """Print a run's summary and write ``report.html`` and ``report.md`` beside it.

    Raises:
        BadInput: there is no summary, or the files cannot be written.
    """
    summary = load_summary(root / SUMMARY)
    write_text(root / "report.html", html_summary(summary))
    write_text(root / "report.md", markdown_summary(summary))
    print_summary(summary, console)
    return summary


def _inputs(line: Line) -> Any:
    files = [FLOAT_FILE]
    for name, target in _variants(line):
        files += [f"{name}/{file}" for file in ("model.onnx", "parity.json")]
        files += [f"{name}/audit.json"] if is_audited(target) else []
    return {
        "files": {name: line.workspace.sha256(name) for name in files},
        "images": source_identity(line.config.validation, line.validation),
        "preprocessing": line.loaded.preprocessing.to_metadata(),
        "settings": line.config.bench.model_dump(mode="json"),
        "cpu": asdict(cpu_info()),
    }


def _bench(line: Line, folder: Path) -> None:
    run_here = [(n, t) for n, t in _variants(line) if platform.machine() in _RUN_ON.get(t, ())]
    candidates = [Candidate(FLOAT, "onnx", line.workspace.path(FLOAT_FILE), SessionSettings())]
    for name, target in run_here:
        path = line.workspace.path(f"{name}/model.onnx")
        candidates.append(Candidate(name, target, path, SessionSettings()))
    how = line.config.bench
    settings = BenchSettings(
        latency=LatencySettings(
            warmup=how.warmup,
            calls=how.calls,
            batch_sizes=tuple(dict.fromkeys(line.batch_size(size) for size in how.batch_sizes)),
            threads=how.threads,
        ),
        memory_repeats=how.memory_repeats,
    )
    size = line.batch_size(how.accuracy_batch)

    def images() -> Iterator[Batch]:
        return batches(line.validation, line.loaded.preprocessing, size)

    measured = {
        variant.name: variant
        for variant in bench_variants(
            candidates, images, settings, reference=FLOAT, total=len(line.validation)
        )
    }
    variants = [measured[FLOAT].model_copy(update={"file": FLOAT_FILE})]
    variants += [_completed(line, name, target, measured) for name, target in _variants(line)]
    save_summary(_summary(line, tuple(variants)), folder / SUMMARY)


def _completed(line: Line, name: str, target: str, measured: dict[str, Variant]) -> Variant:
    """A variant with its place, audit and parity; one that cannot run here has its size alone."""
    file = f"{name}/model.onnx"
    base = measured[FLOAT].size_bytes
    if name not in measured:
        size = file_size(line.workspace.path(file))
        measured[name] = Variant(
            name=name, target=target, file=file, size_bytes=size, size_ratio=base / size, note=_NOT_RUN
        )
    audit = _read(line, f"{name}/audit.json") if is_audited(target) else None
    more = {"file": file, "audit": audit, "parity": _read(line, f"{name}/parity.json")}
    return measured[name].model_copy(update=more)


def _summary(line: Line, variants: tuple[Variant, ...]) -> Summary:
    root = line.workspace.root
    return Summary(
        created=datetime.now(UTC),
        command=f"octavo run {root / CONFIG} --out {root}",
        model=line.config.model.name,
        recipe=", ".join(recipe.name for recipe in line.recipes),
        data=line.validation_in_words,
        reference=FLOAT,
        environment=describe_environment(),
        settings=line.config.model_dump(mode="json", exclude_none=True),
        variants=variants,
    )


def _variants(line: Line) -> list[tuple[str, str]]:
    return [(variant_name(r, t), t.name) for r in line.recipes for t in line.targets]


def _read(line: Line, name: str) -> Any:
    return json.loads(line.workspace.path(name).read_text(encoding="utf-8"))
