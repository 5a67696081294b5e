"""What a peer's script and Octavo agree on.

Runs inside the peer's own environment, so nothing but the standard library, NumPy and ONNX is imported. A
script is called as

    python SCRIPT --model fp32.onnx --images calibration.npy --options options.json --out FOLDER

and leaves its model and ``made.json`` (:class:`Job` says what is in it) in FOLDER, or ``failed.txt`` with the
reason in one line.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["FAILED", "MADE", "Job", "main"]

MADE = "made.json"
FAILED = "failed.txt"
_KIB_PER_MIB = 1024


@dataclass(frozen=True)
class Job:
    """One model to quantize.

    Attributes:
        model: the float ONNX file.
        images: preprocessed calibration images [N, C, H, W], float32, mapped from disk.
        options: what the script does, as JSON values.
        out: the folder that the model goes to.
    """

    model: Path
    images: NDArray[np.float32]
    options: dict[str, Any]
    out: Path

    @property
    def input_name(self) -> str:
        """The model's only input."""
        name: str = self._input.name
        return name

    def feeds(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        """The images as ``{input: [B, C, H, W]}``; B is 1, or what the model is fixed to."""
        size = self._input.type.tensor_type.shape.dim[0].dim_value or 1
        chosen = self.chosen
        for start in range(0, len(chosen) - size + 1, size):
            yield {self.input_name: self.images[chosen[start : start + size]]}

    @property
    def chosen(self) -> list[int]:
        """Numbers of the images: evenly spaced where option ``images`` asks for fewer than there are."""
        count = min(self.options.get("images", len(self.images)), len(self.images))
        return [i * len(self.images) // count for i in range(count)]

    @property
    def _input(self) -> Any:
        graph = onnx.load(self.model, load_external_data=False).graph
        constants = {tensor.name for tensor in graph.initializer}
        (found,) = (value for value in graph.input if value.name not in constants)
        return found


def main(quantize: Callable[[Job], None], packages: Sequence[str]) -> None:
    """Read the command line, quantize, and leave the figures.

    Args:
        quantize: leaves the model in ``job.out``.
        packages: the distributions whose versions are recorded, where they are installed.
    """
    parser = argparse.ArgumentParser()
    for name in ("model", "images", "options", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    job = Job(
        given.model,
        np.load(given.images, mmap_mode="r"),
        json.loads(given.options.read_text(encoding="utf-8")),
        given.out,
    )
    start = time.perf_counter()
    try:
        quantize(job)
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        (job.out / FAILED).write_text(reason + "\n", encoding="utf-8")
        sys.exit(1)
    made = {
        "versions": {name: found for name in packages if (found := _version(name)) is not None},
        "seconds": time.perf_counter() - start,
        "peak_mib": _peak_mib(),
    }
    (job.out / MADE).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def _peak_mib() -> float | None:
    """The most memory this process held; ``getrusage`` would count what our own process held, too."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    (found,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(found) / _KIB_PER_MIB


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
