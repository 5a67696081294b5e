"""The GPU of this machine, as an engine knows it."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Device", "current_device", "describe"]


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: such as ``NVIDIA H100 80GB HBM3``.
        compute: its compute capability, such as ``SM90``.
        memory_mib: of the device.
    """

    name: str
    compute: str
    memory_mib: int

    def __str__(self) -> str:
        return f"{self.name} ({self.compute})"


def current_device() -> Device | None:
    """The first GPU; None where there is none, no driver, or no pycuda to ask it with."""
    try:
        import pycuda.driver as cuda
    except (ImportError, OSError):
        return None
    return _ask(cuda)


def _ask(cuda: Any) -> Device | None:
    try:
        cuda.init()
        if cuda.Device.count() == 0:
            return None
        return describe(cuda.Device(0))
    except cuda.Error:
        return None


def describe(handle: Any) -> Device:
    """What a ``pycuda.driver.Device`` is."""
    major, minor = handle.compute_capability()
    return Device(str(handle.name()), f"SM{major}{minor}", int(handle.total_memory()) >> 20)
