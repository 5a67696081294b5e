"""What a device says of itself in its result."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

__all__ = ["Device", "Gpu", "State"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Gpu(_Model):
    """The GPU that ran the engines, as CUDA and nvidia-smi tell it; None is what they do not.

    Attributes:
        name: such as ``NVIDIA H100 80GB HBM3``.
        compute: its compute capability, such as ``SM90``.
        memory_mib: of the device.
        bus: where it is.
        cuda: the newest version that the driver knows.
        driver: its version.
        power_limit_w: in watts.
        max_sm_mhz: the highest clock of its processors.
        max_memory_mhz: and of its memory.
        library: ``tensorrt`` or ``tensorrt_rtx``.
        version: of the library.
    """

    name: str
    compute: str
    memory_mib: int
    bus: str
    cuda: str
    driver: str | None
    power_limit_w: float | None
    max_sm_mhz: float | None
    max_memory_mhz: float | None
    library: Literal["tensorrt", "tensorrt_rtx"]
    version: str

    def __str__(self) -> str:
        return f"{self.name}, {'TensorRT' if self.library == 'tensorrt' else 'TensorRT-RTX'}"


class Device(_Model):
    """What was measured on, as the system tells it.

    Attributes:
        cpuinfo: of the first processor, some fields of ``/proc/cpuinfo``.
        parts: the different ``CPU part`` of all processors; an ARM big.LITTLE has several.
        board: of the device tree; empty where there is none.
        architecture: e.g. ``aarch64``.
        emulated: whether an emulator ran it, so that no time and no memory says anything.
        cores: logical CPUs that the process could run on.
        memory_gib: of the machine.
        system: operating system and kernel.
        python: version of Python.
        thread_variables: thread settings taken from environment variables.
        gpu: None where no engine was run.
    """

    cpuinfo: dict[str, str]
    parts: tuple[str, ...]
    board: str
    architecture: str
    emulated: bool = False
    cores: PositiveInt
    memory_gib: float
    system: str
    python: str
    thread_variables: dict[str, str]
    gpu: Gpu | None = None

    @property
    def name(self) -> str:
        """The processor's, the board's, or of ARM its numbers; with a word where it is emulated."""
        arm = f"implementer {self.cpuinfo.get('CPU implementer', '?')}, part {', '.join(self.parts)}"
        name = self.cpuinfo.get("model name") or self.board or (arm if self.parts else self.architecture)
        return f"{name}, emulated" if self.emulated else name


class State(_Model):
    """What may change while it is measured.

    Attributes:
        celsius: thermal zone to its temperature in °C.
        mhz: clock of the last processor that was measured on; None where it cannot be read.
        governor: of that clock; None where it cannot be read.
        gpu: its temperature in °C, power in watts and clocks in MHz; empty where no engine was run.
    """

    celsius: dict[str, float]
    mhz: float | None
    governor: str | None
    gpu: dict[str, float | None] = {}
