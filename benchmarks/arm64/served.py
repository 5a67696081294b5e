"""The serving image for ARM64 in the emulator, started as on a device."""

import os
from pathlib import Path

from benchmarks.arm64.cpus import Cpu
from benchmarks.bars.container import Container, Engine

__all__ = ["emulated"]

_READY_S = 300.0
"""The emulator takes ten seconds for what is done in a tenth; this only ends what hangs."""


def emulated(engine: Engine, image: str, bundle: Path, cpu: Cpu, folder: Path) -> Container:
    """A container on an emulated processor, not started yet.

    Args:
        engine: that runs it.
        image: its name.
        bundle: a file, made for ``ort-arm64``.
        cpu: the processor.
        folder: a file of the processor's description is written there.
    """
    cpuinfo = folder / "cpuinfo"
    cpuinfo.write_text(cpu.cpuinfo(len(os.sched_getaffinity(0))), encoding="ascii")
    options = [
        "--platform=linux/arm64",
        "--init",  # what crashes as process 1 under QEMU hangs for ever
        f"--env=QEMU_CPU={cpu.name}",
        f"--volume={cpuinfo.resolve()}:/proc/cpuinfo:ro",
    ]
    return Container(engine, image, bundle, options, _READY_S)
