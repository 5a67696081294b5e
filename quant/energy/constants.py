"""Energy of arithmetic and memory on silicon.

Source: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9:
45 nm, 0.9 V. The fp16 multiplication is 1.1 pJ in the paper (1.0 on the slide of the talk). DRAM is given as
a range, 1300 to 2600 pJ; the lower end stands here.
"""

from dataclasses import dataclass
from enum import StrEnum

from quant.errors import BadInput

__all__ = ["HOROWITZ_45NM", "EnergyConstants", "Memory"]

PICO = 1e-12
WORD_BITS = 64
"""Width of the memory accesses that the constants are given for."""


class Memory(StrEnum):
    """Where values live between layers."""

    DRAM = "dram"
    SRAM_8K = "sram_8k"
    SRAM_32K = "sram_32k"
    SRAM_1M = "sram_1m"


@dataclass(frozen=True)
class EnergyConstants:
    """Joules per operation, and per access of 64 bits; give other numbers for another process.

    Attributes:
        int8_multiply: 8 × 8 bits; other widths scale with the square of the bits.
        int32_add: into the accumulator of integer products.
        fp16_multiply: half precision.
        fp16_add: half precision.
        fp32_multiply: single precision.
        fp32_add: single precision.
        sram_8k: one access to a cache of 8 KB.
        sram_32k: of 32 KB.
        sram_1m: of 1 MB.
        dram: one access to memory off the chip.
    """

    int8_multiply: float = 0.2 * PICO
    int32_add: float = 0.1 * PICO
    fp16_multiply: float = 1.1 * PICO
    fp16_add: float = 0.4 * PICO
    fp32_multiply: float = 3.7 * PICO
    fp32_add: float = 0.9 * PICO
    sram_8k: float = 10 * PICO
    sram_32k: float = 20 * PICO
    sram_1m: float = 100 * PICO
    dram: float = 1300 * PICO

    def __post_init__(self) -> None:
        for name, joules in vars(self).items():
            if not 0 <= joules < float("inf"):
                raise BadInput(f"energy constant {name} must be a number of joules >= 0, got {joules}")

    def per_bit(self, memory: Memory) -> float:
        """Joules to move one bit."""
        joules: float = getattr(self, memory.value)
        return joules / WORD_BITS


HOROWITZ_45NM = EnergyConstants()
