"""The last two stages of a run: measure its variants into ``summary.json``, and show that to people."""

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.bench import BenchSettings, Candidate, bench_accuracy, bench_speed
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.latency import LatencySettings, Noise
from benchmarks.onnx_file import file_size
from benchmarks.report.html import html_summary
from benchmarks.report.markdown import markdown_summary
from benchmarks.report.terminal import print_summary
from benchmarks.results import Summary, Variant, load_summary, save_summary
from deploy.cpu import cpu_info
from deploy.pipeline.audit import is_audited
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.images import source_identity
from deploy.pipeline.line import CONFIG, FLOAT, Line, variant_name
from deploy.pipeline.workspace import Step
from quant.data.batches import Batch, batches

__all__ = ["SUMMARY", "bench_steps", "report"]

SUMMARY = "summary.json"
PYTORCH = "pytorch"
_NOT_RUN = "exported and checked; not run here"
_EAGER = "PyTorch without compilation; its size is that of the parameters"
_FAKE_QUANT = "fake-quant layers in PyTorch: the numbers of the quantized model, not its speed"
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
    candidates = _candidates(line)
    settings = _settings(line)
    size = line.batch_size(line.config.bench.accuracy_batch)

    def images() -> Iterator[Batch]:
        return batches(line.validation, line.loaded.preprocessing, size)

    accuracy = bench_accuracy(candidates, images, settings, reference=FLOAT, total=len(line.validation))
    some = np.asarray(next(iter(images())).images, dtype=np.float32)
    speed = bench_speed(candidates, some, settings, reference=FLOAT)
    measured = {
        c.name: {
            "accuracy": accuracy[c.name],
            "latency": speed.latency[c.name],
            "memory": speed.memory[c.name],
        }
        for c in candidates
    }
    base = file_size(line.workspace.path(FLOAT_FILE))
    variants = [
        Variant(
            name=FLOAT, target="onnx", file=FLOAT_FILE, size_bytes=base, size_ratio=1.0, **measured[FLOAT]
        )
    ]
    variants += [
        _variant(line, name, target, base, measured.get(name, {})) for name, target in _variants(line)
    ]
    variants += [_inside_pytorch(line, c, measured[c.name]) for c in candidates if c.backend == "pytorch"]
    save_summary(_summary(line, tuple(variants), speed.noise), folder / SUMMARY)


def _candidates(line: Line) -> list[Candidate]:
    """Everything that can be run on this machine."""
    how = line.config.bench
    options = {"providers": list(how.providers)}
    found = [Candidate(FLOAT, line.workspace.path(FLOAT_FILE), options=options)]
    for name, target in _variants(line):
        if platform.machine() in _RUN_ON.get(target, ()):
            found.append(Candidate(name, line.workspace.path(f"{name}/model.onnx"), options=options))
    if how.pytorch:
        root = line.workspace.root
        found.append(Candidate(f"{FLOAT}-{PYTORCH}", root, PYTORCH))
        found += [Candidate(f"{r.name}-{PYTORCH}", root, PYTORCH, {"recipe": r.name}) for r in line.recipes]
    return found


def _settings(line: Line) -> BenchSettings:
    how = line.config.bench
    return BenchSettings(
        latency=LatencySettings(
            processes=how.processes,
            warmup=how.warmup,
            calls=how.calls,
            turn=how.turn,
            batch_sizes=tuple(dict.fromkeys(line.batch_size(size) for size in how.batch_sizes)),
            threads=how.threads,
        ),
        cpus=how.cpus,
    )


def _variant(line: Line, name: str, target: str, base: int, measured: dict[str, Any]) -> Variant:
    """A variant with its place, audit and parity; one that cannot run here has its size alone."""
    file = f"{name}/model.onnx"
    size = file_size(line.workspace.path(file))
    return Variant(
        name=name,
        target=target,
        file=file,
        size_bytes=size,
        size_ratio=base / size,
        audit=_read(line, f"{name}/audit.json") if is_audited(target) else None,
        parity=_read(line, f"{name}/parity.json"),
        note=None if measured else _NOT_RUN,
        **measured,
    )


def _inside_pytorch(line: Line, candidate: Candidate, measured: dict[str, Any]) -> Variant:
    """A model that is no file: PyTorch's own, as a yardstick."""
    size = sum(p.numel() * p.element_size() for p in line.loaded.model.parameters())
    return Variant(
        name=candidate.name,
        target=PYTORCH,
        backend=PYTORCH,
        file=CONFIG,
        size_bytes=size,
        note=_FAKE_QUANT if candidate.options else _EAGER,
        **measured,
    )


def _summary(line: Line, variants: tuple[Variant, ...], noise: tuple[Noise, ...]) -> Summary:
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
        noise=noise,
    )


def _variants(line: Line) -> list[tuple[str, str]]:
    return [(variant_name(r, t), t.name) for r in line.recipes for t in line.targets]


def _read(line: Line, name: str) -> Any:
    return json.loads(line.workspace.path(name).read_text(encoding="utf-8"))
