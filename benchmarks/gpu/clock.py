"""Time calls for as long as is allowed, and what the device spends on them."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.statistics import percentiles

__all__ = ["Meter", "Timed", "time_calls"]

_WARM_UP, _FEWEST, _MOST = 10, 20, 2000


class Meter:
    """NVIDIA's management library, where it is installed and has a GPU; otherwise nothing is known."""

    def __init__(self, index: int = 0) -> None:
        self._library: Any = None
        with suppress(Exception):  # it has many, and none may stop a measurement
            import pynvml

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            self._library = pynvml

    def millijoules(self) -> float | None:
        """The device's counter of energy; None where it has none."""
        found = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if found is None else float(found)

    def used_mib(self) -> float | None:
        """Memory in use on the device, of all processes."""
        found = self._ask("nvmlDeviceGetMemoryInfo")
        return None if found is None else float(found.used) / 2**20

    def describe(self) -> dict[str, Any]:
        """Name, driver, limits and clocks, as far as they are known."""
        about = {
            "power_limit_w": self._ask("nvmlDeviceGetPowerManagementLimit"),
            "max_sm_mhz": self._ask("nvmlDeviceGetMaxClockInfo", 1),
            "temperature_c": self._ask("nvmlDeviceGetTemperature", 0),
            "driver": None if self._library is None else self._driver(),
        }
        if about["power_limit_w"] is not None:
            about["power_limit_w"] /= 1000
        return about

    def _driver(self) -> str | None:
        with suppress(Exception):
            return str(self._library.nvmlSystemGetDriverVersion())
        return None

    def _ask(self, question: str, *more: int) -> Any:
        if self._library is None:
            return None
        with suppress(Exception):
            return getattr(self._library, question)(self._handle, *more)
        return None


@dataclass(frozen=True)
class Timed:
    """What calls took.

    Attributes:
        calls: how many were counted.
        median_ms: of a call.
        p90_ms: of a call.
        p99_ms: of a call.
        fastest_ms: of a call.
        millijoules: of a call, by the device's counter; None where it has none.
    """

    calls: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    fastest_ms: float
    millijoules: float | None


def time_calls(call: Callable[[], object], seconds: float, meter: Meter | None = None) -> Timed:
    """Call again and again; a call returns when its result is there.

    Args:
        call: what is timed.
        seconds: for how long, warm-up not counted; at least 20 calls are made.
        meter: of the device's energy.
    """
    for _ in range(_WARM_UP):
        call()
    samples: list[float] = []
    before = None if meter is None else meter.millijoules()
    end = time.perf_counter() + seconds
    while len(samples) < _FEWEST or (time.perf_counter() < end and len(samples) < _MOST):
        start = time.perf_counter()
        call()
        samples.append(1000 * (time.perf_counter() - start))
    after = None if meter is None else meter.millijoules()
    spent = None if before is None or after is None else (after - before) / len(samples)
    found = percentiles(samples)
    return Timed(len(samples), found.median, found.p90, found.p99, min(samples), spent)
