"""The CPU a measurement was taken on, and the instructions that decide its INT8 speed and exactness."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuInfo", "cpu_info", "has_vnni", "parse_cpuinfo"]

_VNNI = frozenset({"avx_vnni", "avx512_vnni", "avx_vnni_int8", "amx_int8"})
_X86_ISA = _VNNI | {"sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni_int16", "amx_tile", "amx_bf16"}
_ARM_ISA = frozenset({"asimd", "neon", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "sme"})


@dataclass(frozen=True)
class CpuInfo:
    """The CPU, as far as it matters to integer inference.

    Attributes:
        model: its name; empty where the system does not tell.
        architecture: e.g. ``x86_64``, ``aarch64``.
        isa: instruction-set extensions that inference kernels use, sorted; empty where the system does not
            tell.
        cores: logical CPUs this process may run on.
    """

    model: str
    architecture: str
    isa: tuple[str, ...]
    cores: int


def cpu_info() -> CpuInfo:
    """Describe this machine's CPU."""
    try:
        model, isa = parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        model, isa = "", ()
    return CpuInfo(
        model=model or platform.processor(), architecture=platform.machine(), isa=isa, cores=_usable_cpus()
    )


def has_vnni(cpu: CpuInfo | None = None) -> bool:
    """Tell whether the CPU multiplies U8 by S8 into 32-bit sums without saturating (VNNI or AMX).

    Without it x86 kernels use VPMADDUBSW, which adds two products in a saturating 16-bit sum. False where the
    system does not tell, and on ARM, whose own dot products do not saturate either.
    """
    return bool(_VNNI.intersection((cpu or cpu_info()).isa))


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Read the model name and the instruction sets from the text of Linux's ``/proc/cpuinfo``.

    Args:
        text: the file's content; x86 (``flags``) or ARM (``Features``).

    Returns:
        The model name (empty where the file has none, as on most ARM kernels) and the extensions, sorted.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    known = {f for f in flags if f in _X86_ISA or f in _ARM_ISA or f.startswith("avx512")}
    return fields.get("model name", ""), tuple(sorted(known))


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
