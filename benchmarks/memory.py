"""What a model costs in memory, seen from the fresh processes that run it."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness.process import Footprint
from quant.errors import BadInput

__all__ = ["Memory", "memory_of"]


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process that loads and runs one model, in MiB.

    Attributes:
        batch: images per call.
        threads: intra-op threads.
        imported_mib: after importing NumPy and the runtime: the baseline.
        loaded_mib: after loading the model.
        first_mib: after the first call.
        peak_mib: the most that ever was resident.
        load_delta_mib: loaded - imported.
        first_delta_mib: first - imported.
        peak_delta_mib: peak - imported: what the model itself costs.
        peaks_mib: peak of every process measured; the figures above are those of the median one.
        steady_mib: after the last call; ``None`` where it was not measured.
    """

    batch: int
    threads: int
    imported_mib: float
    loaded_mib: float
    first_mib: float
    peak_mib: float
    load_delta_mib: float
    first_delta_mib: float
    peak_delta_mib: float
    peaks_mib: tuple[float, ...]
    steady_mib: float | None = None


def memory_of(footprints: Sequence[Footprint], *, batch: int, threads: int) -> Memory:
    """The figures of the process with the median peak.

    Args:
        footprints: of processes that ran the same model in the same way.
        batch: images per call.
        threads: intra-op threads.

    Raises:
        BadInput: there are none.
    """
    if not footprints:
        raise BadInput("memory needs at least one process")
    runs = sorted(footprints, key=lambda run: run.peak_mib)
    middle = runs[(len(runs) - 1) // 2]
    base = middle.imported_mib
    return Memory(
        batch=batch,
        threads=threads,
        imported_mib=base,
        loaded_mib=middle.loaded_mib,
        first_mib=middle.first_mib,
        peak_mib=middle.peak_mib,
        load_delta_mib=middle.loaded_mib - base,
        first_delta_mib=middle.first_mib - base,
        peak_delta_mib=middle.peak_mib - base,
        peaks_mib=tuple(run.peak_mib for run in footprints),
        steady_mib=middle.steady_mib,
    )
