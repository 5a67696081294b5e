"""Measure what a model costs in memory, each time in a fresh process that imports no training framework."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.onnxruntime.build import SessionSettings
from quant.errors import BadInput, InternalError

__all__ = ["Memory", "measure_memory", "probe_command"]

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process that loads and runs one model, in MiB.

    Attributes:
        batch: images per call.
        threads: intra-op threads.
        imported_mib: after importing NumPy and ONNX Runtime: the baseline.
        loaded_mib: after loading the model.
        first_mib: after the first call.
        peak_mib: the most that ever was resident.
        load_delta_mib: loaded - imported.
        first_delta_mib: first - imported.
        peak_delta_mib: peak - imported: what the model itself costs.
        peaks_mib: peak of every process measured; the figures above are those of the median one.
    """

    batch: int
    threads: int
    imported_mib: float
    loaded_mib: float
    first_mib: float
    peak_mib: float
    load_delta_mib: float
    first_delta_mib: float
    peak_delta_mib: float
    peaks_mib: tuple[float, ...]


def measure_memory(
    model: Path, settings: SessionSettings, *, batch: int = 1, repeats: int = 3, timeout_s: float = 600
) -> Memory:
    """Start ``repeats`` fresh processes, one after the other, and keep the one with the median peak.

    Args:
        model: an ONNX file.
        settings: how the session is built.
        batch: images per call.
        repeats: number of processes.
        timeout_s: longest time one may take, in seconds.

    Raises:
        BadInput: the model cannot be loaded or run there, the system does not tell memory, a process takes
            too long, or ``repeats`` is not positive.
        InternalError: the probe died or answered something else than its figures.
    """
    if repeats < 1:
        raise BadInput(f"memory needs at least one measurement, got repeats={repeats}")
    command = probe_command(model, settings, batch)
    runs = sorted((_run(command, timeout_s) for _ in range(repeats)), key=lambda run: run["peak_mib"])
    middle = runs[(repeats - 1) // 2]
    base = middle["imported_mib"]
    return Memory(
        batch=batch,
        threads=settings.intra_op_threads,
        imported_mib=base,
        loaded_mib=middle["loaded_mib"],
        first_mib=middle["first_mib"],
        peak_mib=middle["peak_mib"],
        load_delta_mib=middle["loaded_mib"] - base,
        first_delta_mib=middle["first_mib"] - base,
        peak_delta_mib=middle["peak_mib"] - base,
        peaks_mib=tuple(run["peak_mib"] for run in runs),
    )


def probe_command(model: Path, settings: SessionSettings, batch: int) -> list[str]:
    """The command line that measures ``model`` once."""
    command = [sys.executable, "-m", "benchmarks.memory_probe", str(model.resolve()), f"--batch={batch}"]
    command += [f"--threads={settings.intra_op_threads}", f"--inter-op-threads={settings.inter_op_threads}"]
    command += [f"--optimization={settings.optimization.value}"]
    command += [f"--provider={name}" for name in settings.providers]
    command += [f"--disable-optimizer={name}" for name in settings.disabled_optimizers]
    command += [f"--config={key}={value}" for key, value in settings.config.items()]
    return command


def _run(command: list[str], timeout_s: float) -> dict[str, float]:
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=os.environ | {"PYTHONPATH": path},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"measuring memory took longer than {timeout_s:g} s: {' '.join(command)}") from error
    if done.returncode == 2:
        raise BadInput(f"memory: {done.stderr.strip()}")
    try:
        figures = json.loads(done.stdout)
        return {key: float(figures[key]) for key in ("imported_mib", "loaded_mib", "first_mib", "peak_mib")}
    except (ValueError, TypeError, KeyError) as error:
        raise InternalError(
            f"the memory probe ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        ) from error
