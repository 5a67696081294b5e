"""The energy counters of x86 processors (RAPL), as Linux shows them below ``/sys/class/powercap``."""

from pathlib import Path

__all__ = ["POWERCAP", "EnergyCounter"]

POWERCAP = Path("/sys/class/powercap")
_JOULES = 1e-6


class EnergyCounter:
    """Joules that all processor packages spent, idle power and other processes included.

    The counters of packages contain those of their cores, so only ``intel-rapl:N`` is read (AMD's are called
    the same), not its parts ``intel-rapl:N:M``. They often belong to root.

    Args:
        folder: where the counters are.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._packages = sorted(p for p in folder.glob("intel-rapl:*") if p.name.count(":") == 1)
        self._before = self._read()

    @property
    def readable(self) -> bool:
        """Whether there is any counter that may be read."""
        return self._before is not None

    def joules(self) -> float | None:
        """Since the counter was made or last asked; None where nothing can be read."""
        before, now = self._before, self._read()
        self._before = now
        if before is None or now is None:
            return None
        spent = 0.0
        for (was, _), (is_now, span) in zip(before, now, strict=True):
            spent += (
                is_now - was if is_now >= was else is_now - was + span
            )  # it starts anew from 0 at its span
        return spent * _JOULES

    def _read(self) -> list[tuple[int, int]] | None:
        """Of each package the microjoules and where they start anew."""
        try:
            found = [(_number(p / "energy_uj"), _number(p / "max_energy_range_uj")) for p in self._packages]
        except (OSError, ValueError):
            return None
        return found or None


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))
