"""Engines of a kit's files, built where they are run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.tensorrt.build import EngineSettings
from deploy.tensorrt.cache import default_cache
from deploy.tensorrt.engines import build_engine
from deploy.tensorrt.gpu import Machine, pycuda_machine
from deploy.tensorrt.run import TensorRtRunner
from quant.errors import OctavoError, Unsupported

__all__ = ["BuiltEngine", "built", "machine_here"]


@dataclass(frozen=True)
class BuiltEngine:
    """An engine of a kit's file.

    Attributes:
        plan: its file.
        seconds: building took, or finding it in the cache.
        machine: the GPU that runs it.
    """

    plan: Path
    seconds: float
    machine: Machine

    def coverage(self, runner: TensorRtRunner, model: Path) -> dict[str, Any]:
        """Share of the multiplications in 8-bit kernels, as the engine's own inspector tells it."""
        from deploy.audit.engine import audit_engine

        try:
            report = audit_engine(model, runner.layer_information(), "")
        except OctavoError as error:
            return {"audit": str(error)}
        return {"share_in_8_bits": report.total_share, "unfused": [m.module for m in report.unfused]}


def machine_here() -> Machine:
    """The GPU, by pycuda or, where that is not installed, by PyTorch.

    Raises:
        Unsupported: neither finds one.
    """
    try:
        return pycuda_machine()
    except Unsupported as first:
        try:
            from benchmarks.gpu.torch_gpu import torch_machine

            return torch_machine()
        except (ImportError, Unsupported) as second:
            raise Unsupported(f"{first}; {second}") from second


def built(model: Path, library: str, batches: Sequence[int]) -> BuiltEngine:
    """Build the engine of a file, or find it in the cache.

    Raises:
        BadInput: the file cannot be read.
        Unsupported: the library does not take it, or there is no GPU.
    """
    machine = machine_here()
    settings = EngineSettings(batches=(min(batches), min(batches), max(batches)))
    start = time.perf_counter()
    engine = build_engine(model, settings, default_cache(), library, timeout_s=180, device=machine.device)
    return BuiltEngine(engine.plan, time.perf_counter() - start, machine)
