"""The variants of a run: which of them can be measured here, how, and what the summary says of each."""

import json
import platform
from typing import Any

from benchmarks.accuracy import Accuracy
from benchmarks.bench import BenchSettings, Candidate, Speed
from benchmarks.energy import Energy, modelled
from benchmarks.latency import LatencySettings
from benchmarks.onnx_file import file_size
from benchmarks.results import Variant
from deploy.pipeline.audit import is_audited
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.line import CONFIG, FLOAT, Line, variant_name
from quant.recipe import Recipe

__all__ = ["bench_settings", "candidates", "lowered", "variants"]

PYTORCH = "pytorch"
_NOT_RUN = "exported and checked; not run here"
_EAGER = "PyTorch without compilation; its size is that of the parameters"
_FAKE_QUANT = "fake-quant layers in PyTorch: the numbers of the quantized model, not its speed"
_RUN_ON = {"ort-x86": ("x86_64", "AMD64"), "ort-arm64": ("aarch64", "arm64")}


def lowered(line: Line) -> list[tuple[str, str, Recipe]]:
    """Name, target and recipe of each exported variant but the float one."""
    return [(variant_name(r, t), t.name, r) for r in line.recipes for t in line.targets]


def candidates(line: Line) -> list[Candidate]:
    """Everything that can be run on this machine."""
    how = line.config.bench
    options = {"providers": list(how.providers)}
    found = [Candidate(FLOAT, line.workspace.path(FLOAT_FILE), options=options)]
    for name, target, _ in lowered(line):
        if platform.machine() in _RUN_ON.get(target, ()):
            found.append(Candidate(name, line.workspace.path(f"{name}/model.onnx"), options=options))
    if how.pytorch:
        root = line.workspace.root
        found.append(Candidate(f"{FLOAT}-{PYTORCH}", root, PYTORCH))
        found += [Candidate(f"{r.name}-{PYTORCH}", root, PYTORCH, {"recipe": r.name}) for r in line.recipes]
    return found


def bench_settings(line: Line) -> BenchSettings:
    """How they are measured."""
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


def variants(line: Line, accuracy: dict[str, Accuracy], speed: Speed) -> tuple[Variant, ...]:
    """All variants with what was measured of them, the float model first.

    Args:
        line: the run.
        accuracy: by candidate.
        speed: of the same candidates.
    """

    def figures(name: str, recipe: Recipe | None) -> dict[str, Any]:
        energy = _energy(line, recipe, speed.millijoules.get(name))
        if name not in accuracy:
            return {"energy": energy}
        return {
            "accuracy": accuracy[name],
            "latency": speed.latency[name],
            "memory": speed.memory[name],
            "energy": energy,
        }

    base = file_size(line.workspace.path(FLOAT_FILE))
    found = [
        Variant(
            name=FLOAT,
            target="onnx",
            file=FLOAT_FILE,
            size_bytes=base,
            size_ratio=1.0,
            **figures(FLOAT, None),
        )
    ]
    for name, target, recipe in lowered(line):
        file = f"{name}/model.onnx"
        size = file_size(line.workspace.path(file))
        found.append(
            Variant(
                name=name,
                target=target,
                file=file,
                size_bytes=size,
                size_ratio=base / size,
                audit=_read(line, f"{name}/audit.json") if is_audited(target) else None,
                parity=_read(line, f"{name}/parity.json"),
                note=None if name in accuracy else _NOT_RUN,
                **figures(name, recipe),
            )
        )
    by_name = {recipe.name: recipe for recipe in line.recipes}
    for candidate in candidates(line):
        if candidate.backend == PYTORCH:
            recipe_of = by_name.get(candidate.options.get("recipe", ""))
            found.append(
                Variant(
                    name=candidate.name,
                    target=PYTORCH,
                    backend=PYTORCH,
                    file=CONFIG,
                    size_bytes=sum(p.numel() * p.element_size() for p in line.loaded.model.parameters()),
                    note=_FAKE_QUANT if recipe_of else _EAGER,
                    **figures(candidate.name, recipe_of),
                )
            )
    return tuple(found)


def _energy(line: Line, recipe: Recipe | None, measured_mj: float | None) -> Energy | None:
    if recipe is not None and recipe.mixed_precision is not None:
        recipe = line.calibrated(recipe).recipe  # the one whose widths are decided
    return modelled(line.graph, recipe, measured_mj)


def _read(line: Line, name: str) -> Any:
    return json.loads(line.workspace.path(name).read_text(encoding="utf-8"))
