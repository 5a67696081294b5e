"""The ARM processors that are emulated, and what ``/proc/cpuinfo`` says on each.

Programs in the emulator see this machine's ``/proc/cpuinfo``. ONNX Runtime chooses its kernels by that file
and crashes where it is an x86 CPU's, so one of the emulated processor is laid over it; if that promises more
than QEMU emulates, a kernel ends in SIGILL.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from quant.errors import BadInput

__all__ = ["CPUS", "Cpu", "cpu_named"]

_ARMV8_0 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"


@dataclass(frozen=True)
class Cpu:
    """A processor core.

    Attributes:
        name: as QEMU calls it (``QEMU_CPU``).
        part: number of the core in Arm's list, hexadecimal (MIDR_EL1, PartNum).
        variant: major revision, hexadecimal.
        revision: minor revision.
        features: what the kernel would say of it.
    """

    name: str
    part: str
    variant: str
    revision: int
    features: str

    @property
    def dot_product(self) -> bool:
        """Whether it has SDOT and UDOT, which sum four products of 8 bits at once."""
        return "asimddp" in self.features.split()

    def cpuinfo(self, cores: int) -> str:
        """The text of ``/proc/cpuinfo`` on a machine with some of these cores."""
        lines = (
            "BogoMIPS\t: 50.00",
            f"Features\t: {self.features}",
            "CPU implementer\t: 0x41",
            "CPU architecture: 8",
            f"CPU variant\t: {self.variant}",
            f"CPU part\t: {self.part}",
            f"CPU revision\t: {self.revision}",
        )
        return "\n".join(f"processor\t: {i}\n" + "\n".join(lines) + "\n" for i in range(cores))


CPUS: Mapping[str, Cpu] = {
    cpu.name: cpu
    for cpu in (
        Cpu(
            name="neoverse-n1",
            part="0xd0c",
            variant="0x3",
            revision=1,
            features=f"{_ARMV8_0} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp",
        ),
        Cpu(name="cortex-a72", part="0xd08", variant="0x0", revision=3, features=_ARMV8_0),
    )
}
"""A core with dot products (Armv8.2) and one without (Armv8.0): ONNX Runtime has kernels for each."""


def cpu_named(name: str) -> Cpu:
    """The processor called ``name``.

    Raises:
        BadInput: there is none.
    """
    if name not in CPUS:
        raise BadInput(f"unknown ARM processor '{name}'; known: {', '.join(CPUS)}")
    return CPUS[name]
