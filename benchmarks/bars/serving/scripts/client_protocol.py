"""What a client's script and Octavo agree on.

A script is called as ``python SCRIPT job.json`` (:class:`Job` says what is in it; KServe's library reads the
command line itself, which options would disturb), asks the server in all the ways that its client has, and
leaves what came back as ``OUT/WAY.npy``. It ends with another exit code than 0, and with the reason on its
last line, where something else is not as it should.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Job", "check", "read_job"]


@dataclass(frozen=True)
class Job:
    """What to ask.

    Attributes:
        http: host and port.
        grpc: host and port.
        model: to be asked.
        inputs: float32 [1, ...].
        input_name: of the model's input.
        output_name: of its output.
        out: folder of the answers.
    """

    http: str
    grpc: str
    model: str
    inputs: Any
    input_name: str
    output_name: str
    out: Path

    def keep(self, way: str, outputs: Any) -> None:
        """Leave an answer behind."""
        np.save(self.out / f"{way}.npy", outputs)


def read_job() -> Job:
    """From the file that the command line names, where tensor and folder are paths."""
    told = json.loads(Path(sys.argv[1]).read_text())
    told |= {"inputs": np.load(told["inputs"]), "out": Path(told["out"])}
    return Job(**told)


def check(what: str, found: Any, expected: Any) -> None:
    """Compare.

    Raises:
        SystemExit: they differ.
    """
    if found != expected:
        raise SystemExit(f"{what} is {found!r}, not {expected!r}")
