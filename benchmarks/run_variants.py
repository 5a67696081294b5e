"""The variants of a run: which of them can be measured here, how, and what the summary says of each."""

import json
import platform
from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy import Accuracy
from benchmarks.bench import BenchSettings, Candidate, Speed
from benchmarks.energy import Energy, modelled
from benchmarks.latency import LatencySettings
from benchmarks.load import LoadResult
from benchmarks.onnx_file import file_size
from benchmarks.results import Variant
from deploy.onnxruntime.build import Optimization
from deploy.pipeline.audit import is_audited
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.line import CONFIG, FLOAT, Line, float_variant, variant_name
from export.targets import Target
from quant.energy.bits import FLOAT_BITS
from quant.recipe import Recipe

__all__ = [
    "PLAIN",
    "RUN_ON",
    "bench_settings",
    "candidates",
    "float_file",
    "float_lowerings",
    "lowered",
    "simulated",
    "variants",
]

PYTORCH = "pytorch"
PLAIN = f"{FLOAT}-plain"
_AS_EXPORTED = "the float model in plain operators; FP32 is the same function in the graph for this runtime"
_NOT_RUN = "exported and checked; not run here"
_SIMULATED = "accuracy as ONNX defines its operators; this target's own kernels were not run here"
_EAGER = "PyTorch without compilation; its size is that of the parameters"
_FAKE_QUANT = "fake-quant layers in PyTorch: the numbers of the quantized model, not its speed"
RUN_ON = {"ort-x86": ("x86_64", "AMD64"), "ort-arm64": ("aarch64", "arm64")}
"""Target to the machines whose ONNX Runtime executes it as the target does."""


def lowered(line: Line) -> list[tuple[str, str, Recipe]]:
    """Name, target and recipe of each exported variant but the float one."""
    return [(variant_name(r, t), t.name, r) for r in line.recipes for t in line.targets]


def float_lowerings(line: Line) -> list[str]:
    """The files of the float model in a graph of its own for a target."""
    return [f"{float_variant(target)}/model.onnx" for target in line.targets if target.lowers_float]


def float_file(line: Line) -> str:
    """The float model that variants are compared with: the best graph for this machine, if there is one.

    Quantization must not be praised for what another graph of the same function gives.
    """
    plain = line.workspace.sha256(FLOAT_FILE)
    for target in line.targets:
        file = f"{float_variant(target)}/model.onnx"
        if target.runs_here and target.fused_attention and line.workspace.sha256(file) != plain:
            return file
    return FLOAT_FILE


def candidates(line: Line) -> list[Candidate]:
    """Everything that can be run on this machine."""
    how = line.config.bench
    options = {"providers": list(how.providers)}
    found = [Candidate(FLOAT, line.workspace.path(float_file(line)), options=options)]
    if float_file(line) != FLOAT_FILE:
        found.append(Candidate(PLAIN, line.workspace.path(FLOAT_FILE), options=options))
    for name, target, _ in lowered(line):
        if platform.machine() in RUN_ON.get(target, ()):
            found.append(Candidate(name, line.workspace.path(f"{name}/model.onnx"), options=options))
    if how.pytorch:
        root = line.workspace.root
        found.append(Candidate(f"{FLOAT}-{PYTORCH}", root, PYTORCH))
        found += [Candidate(f"{r.name}-{PYTORCH}", root, PYTORCH, {"recipe": r.name}) for r in line.recipes]
    return found


def simulated(line: Line) -> list[Candidate]:
    """What is made for other targets: its accuracy can be told, operator by operator, its speed cannot."""
    if not line.config.bench.other_targets:
        return []
    names = [float_variant(target) for target in _float_targets(line)]
    names += [n for n, target, _ in lowered(line) if platform.machine() not in RUN_ON.get(target, ())]
    options = {"optimization": Optimization.OFF.value}
    return [Candidate(name, line.workspace.path(f"{name}/model.onnx"), options=options) for name in names]


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


def variants(
    line: Line,
    accuracy: Mapping[str, Accuracy],
    speed: Speed,
    load: Mapping[str, tuple[LoadResult, ...]],
) -> tuple[Variant, ...]:
    """All variants with what was measured of them, the float model first.

    Args:
        line: the run.
        accuracy: by candidate.
        speed: of the same candidates.
        load: of the same candidates, where it was asked for.
    """
    floats_of = [(float_variant(t), t.name, None) for t in _float_targets(line)]
    halves = {float_variant(t) for t in line.targets if t.half_remainder}

    def figures(name: str, recipe: Recipe | None) -> dict[str, Any]:
        bits = 16 if name in halves else FLOAT_BITS
        energy = _energy(line, recipe, speed.millijoules.get(name), bits)
        if name not in accuracy:
            return {"energy": energy}
        if name not in speed.latency:
            return {"accuracy": accuracy[name], "energy": energy}
        return {
            "accuracy": accuracy[name],
            "latency": speed.latency[name],
            "memory": speed.memory[name],
            "load": load.get(name),
            "energy": energy,
        }

    best = float_file(line)
    base = file_size(line.workspace.path(best))
    floats = {FLOAT: best} if best == FLOAT_FILE else {FLOAT: best, PLAIN: FLOAT_FILE}
    found = [
        Variant(
            name=name,
            target="onnx",
            file=file,
            sha256=line.workspace.sha256(file),
            size_bytes=(size := file_size(line.workspace.path(file))),
            size_ratio=base / size,
            note=_AS_EXPORTED if name == PLAIN else None,
            **figures(name, None),
        )
        for name, file in floats.items()
    ]
    for name, target, recipe in (*floats_of, *lowered(line)):
        file = f"{name}/model.onnx"
        size = file_size(line.workspace.path(file))
        found.append(
            Variant(
                name=name,
                target=target,
                file=file,
                sha256=line.workspace.sha256(file),
                size_bytes=size,
                size_ratio=base / size,
                audit=_read(line, f"{name}/audit.json") if recipe and is_audited(target) else None,
                parity=_read(line, f"{name}/parity.json") if recipe else None,
                note=_note(name, accuracy, speed),
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


def _float_targets(line: Line) -> list[Target]:
    """Targets with a float model of their own that ONNX Runtime does not stand for."""
    return [target for target in line.targets if target.lowers_float and target.name not in RUN_ON]


def _note(name: str, accuracy: Mapping[str, Accuracy], speed: Speed) -> str | None:
    if name not in accuracy:
        return _NOT_RUN
    return None if name in speed.latency else _SIMULATED


def _energy(line: Line, recipe: Recipe | None, measured_mj: float | None, float_bits: int) -> Energy | None:
    if recipe is not None and recipe.mixed_precision is not None:
        recipe = line.calibrated(recipe).recipe  # the one whose widths are decided
    return modelled(line.graph, recipe, measured_mj, float_bits)


def _read(line: Line, name: str) -> Any:
    return json.loads(line.workspace.path(name).read_text(encoding="utf-8"))
