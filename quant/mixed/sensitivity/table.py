"""Sensitivity as a table."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sensitivity"]


@dataclass(frozen=True)
class Sensitivity:
    """Ω[group, bits]: how much is lost with a group at a width; smaller is better.

    Attributes:
        metric: what was measured.
        images: on how many images.
        groups: names of the rows.
        bits: widths of the columns, ascending; 16 is float.
        values: rows of Ω.
    """

    metric: str
    images: int
    groups: tuple[str, ...]
    bits: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def omega(self) -> NDArray[np.float64]:
        """Ω as an array [groups, bits]."""
        return np.array(self.values, dtype=np.float64)

    def of(self, group: str, bits: int) -> float:
        """One cell."""
        return self.values[self.groups.index(group)][self.bits.index(bits)]
