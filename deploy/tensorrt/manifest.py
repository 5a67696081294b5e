"""What an engine was built for, and whether it fits what is here.

TensorRT's runtime may end the process on an engine of another version or GPU, and some versions do without a
driver, so the manifest beside the plan is read first.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.tensorrt.device import Device
from deploy.tensorrt.library import LIBRARIES, Library
from deploy.tensorrt.settings import EngineSettings, engine_settings
from quant.errors import BadInput
from quant.files import file_sha256

__all__ = ["Manifest", "check_fits", "read_manifest"]

_AMPERE = 80


@dataclass(frozen=True)
class Manifest:
    """What ``engine.json`` says.

    Attributes:
        plan: the engine's file.
        library: key of :data:`deploy.tensorrt.library.LIBRARIES`.
        version: of the library that built it.
        device: name and compute capability of the GPU it was built on; None where it was built without one.
        settings: it was built with.
    """

    plan: Path
    library: str
    version: str
    device: str | None
    settings: EngineSettings


def read_manifest(plan: Path) -> Manifest:
    """Read the manifest beside an engine, and check that the engine is whole.

    Args:
        plan: the engine's file, ``engine.plan``; ``engine.json`` lies beside it.

    Raises:
        BadInput: one of them is missing, or they do not belong together.
    """
    path = plan.with_suffix(".json")
    for file in (plan, path):
        if not file.is_file():
            raise BadInput(
                f"{file}: does not exist; `octavo build` leaves engine.plan and engine.json together"
            )
    try:
        told: dict[str, Any] = json.loads(path.read_bytes())
        library, version, device = str(told["library"]), str(told["version"]), told["device"]
        settings, sha256 = engine_settings(told["settings"]), str(told["plan"]["sha256"])
        fits = library in LIBRARIES and (device is None or isinstance(device, str))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path}: is not the manifest of an engine; build it again") from error
    if not fits:
        raise BadInput(f"{path}: is not the manifest of an engine; build it again")
    if file_sha256(plan) != sha256:
        raise BadInput(f"{plan}: is not the engine that {path.name} describes; build it again")
    return Manifest(plan, library, version, device, settings)


def check_fits(manifest: Manifest, library: Library, device: Device) -> None:
    """Refuse an engine that was made for something else.

    Args:
        manifest: of the engine.
        library: what is installed.
        device: the GPU that is to run it.

    Raises:
        BadInput: it was built by another version or for another GPU.
    """
    settings, plan = manifest.settings, manifest.plan
    if not _runs_with(manifest.version, library.version, settings.version_compatible):
        raise BadInput(
            f"{plan}: was built with {library.name} {manifest.version}, installed is {library.version}; "
            "build it again, or with version_compatible for later versions of the same generation"
        )
    if manifest.device is None:
        if settings.compute and device.compute not in settings.compute:
            raise BadInput(
                f"{plan}: was built for {', '.join(settings.compute)}, this GPU is {device}; build it again "
                f"with --compute {device.compute}"
            )
        return
    ampere = _capability(manifest.device) >= _AMPERE and _capability(str(device)) >= _AMPERE
    if manifest.device != str(device) and not (settings.hardware_compatible and ampere):
        raise BadInput(
            f"{plan}: was built on {manifest.device}, this GPU is {device}; build it again here, or with "
            "hardware_compatible for all GPUs from Ampere on"
        )


def _runs_with(built: str, installed: str, compatible: bool) -> bool:
    if built == installed:
        return True
    then, now = _numbers(built), _numbers(installed)
    return compatible and then[:1] == now[:1] and then <= now


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _capability(device: str) -> int:
    """90 of ``NVIDIA H100 80GB HBM3 (SM90)``; 0 where none is told."""
    digits = device.rpartition("(SM")[2].rstrip(")")
    return int(digits) if digits.isdigit() else 0
