"""What a report says of a device, beside its figures."""

from typing import Any

import numpy as np

from benchmarks.environment import Environment
from benchmarks.kit.content import Kit
from benchmarks.kit.result import EnginePart, GpuMemory, Part, Result
from deploy.cpu import parse_cpuinfo

__all__ = ["engine_note", "environment_of", "settings_of"]

_FLAGS = ("flags", "Features")  # the instruction sets, which the environment has


def engine_note(part: EnginePart, name: str) -> str | None:
    """Where a variant's engine comes from, and what memory of the GPU it takes; None where there is none."""
    build = part.builds.get(name)
    if build is None:
        return None
    if build.seconds is None:
        note = "the run's own engine"
    else:
        why = f": the run's {build.why}" if build.why else ""
        note = f"engine built there in {build.seconds:.1f} s{why}"
    mib = [gpu.steady_mib for gpu in _memory(part, name)]
    return f"{note}; {np.median(mib):.0f} MiB of the GPU's memory" if mib else note


def _memory(part: Part, name: str) -> list[GpuMemory]:
    told = [one[name].gpu for one in part.sets if name in one]
    return [gpu for gpu in told if gpu is not None]


def environment_of(result: Result, part: Part) -> Environment:
    """Hardware and software that a part ran on."""
    device = result.device
    _, isa = parse_cpuinfo("\n".join(f"{key}: {value}" for key, value in device.cpuinfo.items()))
    return Environment(
        cpu=device.name,
        architecture=device.architecture,
        isa=isa,
        cores=device.cores,
        governor=result.before.governor,
        memory_gib=device.memory_gib,
        system=device.system,
        python=device.python,
        packages=dict(part.packages),
        commit=None,
        thread_variables=dict(device.thread_variables),
        gpu=f"{device.gpu}" if device.gpu is not None and isinstance(part, EnginePart) else None,
    )


def settings_of(result: Result, part: Part, kit: Kit) -> dict[str, Any]:
    """What else there is to know of the device and of how a part was measured."""
    states = {"before": result.before, "after": result.after}
    gpu = result.device.gpu
    found: dict[str, Any] = {
        "task": kit.task,
        "kit": result.kit[:16],
        "device": {
            "board": result.device.board or None,
            **{key: value for key, value in result.device.cpuinfo.items() if key not in _FLAGS},
            "parts": list(result.device.parts),
            **({} if gpu is None else {"gpu": gpu.model_dump(mode="json")}),
            **{name: state.model_dump(mode="json") for name, state in states.items()},
        },
        "measured": {**part.settings.model_dump(mode="json"), "processes": len(part.sets)},
        "left out": dict(result.skipped),
    }
    if isinstance(part, EnginePart):
        engines = {name: build.model_dump(mode="json") for name, build in part.builds.items()}
        memory = {name: [gpu.model_dump(mode="json") for gpu in _memory(part, name)] for name in engines}
        found |= {"timed": part.timed, "precision": part.precision, "engines": engines, "gpu memory": memory}
    return found
