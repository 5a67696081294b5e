"""The target kit of a run, measured in the emulator as on a device."""

import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.arm64.emulator import Emulator
from benchmarks.kit.merge import Measured, merge
from benchmarks.kit.pack import pack

__all__ = ["measure_kit"]

_MINUTES = 600  # in the emulator everything takes a hundred times as long; answers are not to be cut


def measure_kit(
    run: Path, emulator: Emulator, folder: Path, samples: int, say: Callable[[str], None]
) -> tuple[Path, Measured]:
    """Pack the run's kit for ARM, measure it inside, and merge the result as ``octavo report`` does.

    Args:
        run: its folder.
        emulator: the device.
        folder: kept between runs; a finished result of the same kit is not measured again.
        samples: of the validation set.
        say: told what happens.

    Returns:
        The result and what it says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "kit", ignore_errors=True)
    packed = pack(run, folder / "kit", targets=("ort-arm64",), samples=samples)
    result = folder / f"result-{packed.identity[:16]}.json"
    unfinished = result.with_suffix(".part")
    if not result.is_file():
        say(f"kit {packed.identity[:16]}: {', '.join(packed.variants)}")
        words = ["/usr/bin/python3", "kit/measure.py", "--minutes", str(_MINUTES), "--out", unfinished.name]
        emulator.run(words, folder)
        unfinished.rename(result)
    return result, merge(run, result)
