"""Load one model in this process, run it, and print what that took: ``python -m benchmarks.memory_probe``.

Nothing but NumPy and ONNX Runtime is imported here, so that the figures are those of a deployed model and
not of the tool that made it.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from deploy.onnxruntime.run import NUMPY_TYPES
from deploy.runner import Array
from quant.errors import BadInput, OctavoError

__all__ = ["main", "probe", "read_status", "sample_feeds"]

_MIB_PER_KIB = 1 / 1024


def probe(model: Path, settings: SessionSettings, batch: int, calls: int = 3) -> dict[str, float]:
    """Memory of this process in MiB, before and after loading and running ``model``.

    Returns:
        ``imported_mib``, ``loaded_mib`` and ``first_mib`` (resident after the imports, the load and the
        first call) and ``peak_mib`` (the most that ever was resident, after ``calls`` calls).

    Raises:
        BadInput: the model cannot be loaded or fed.
    """
    imported = read_status("VmRSS")
    session = build_session(model, settings)
    loaded = read_status("VmRSS")
    feeds = sample_feeds(session, batch)
    session.run(None, feeds)
    first = read_status("VmRSS")
    for _ in range(calls - 1):
        session.run(None, feeds)
    return {
        "imported_mib": imported,
        "loaded_mib": loaded,
        "first_mib": first,
        "peak_mib": read_status("VmHWM"),
    }


def read_status(field: str, path: Path = Path("/proc/self/status")) -> float:
    """A memory field of the Linux process status, in MiB.

    ``VmHWM`` and not ``getrusage``: the latter's peak is inherited from the process that started this one.

    Raises:
        BadInput: the system does not tell.
    """
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise BadInput(f"memory is measured on Linux only: {path}: {error.strerror}") from error
    for line in lines:
        key, _, value = line.partition(":")
        if key == field:
            return int(value.split()[0]) * _MIB_PER_KIB
    raise BadInput(f"{path} has no field {field}; memory cannot be measured on this system")


def sample_feeds(session: ort.InferenceSession, batch: int) -> dict[str, Array]:
    """Seeded noise (floats) or zeros (anything else) in the shapes the model asks for.

    A free first dimension becomes ``batch``.

    Raises:
        BadInput: another dimension is free, the batch is fixed to something else, or a type is unknown.
    """
    generator = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for node in session.get_inputs():
        kind = NUMPY_TYPES.get(node.type)
        shape = [batch if i == 0 and not isinstance(d, int) else d for i, d in enumerate(node.shape)]
        if kind is None or not all(isinstance(d, int) for d in shape):
            raise BadInput(f"input {node.name!r} ({node.type} {node.shape}) has no size to measure with")
        if shape and shape[0] != batch:
            raise BadInput(f"the model's batch is fixed to {shape[0]}; measure it with that, not {batch}")
        floating = np.issubdtype(kind, np.floating)
        feeds[node.name] = (
            generator.standard_normal(shape).astype(kind) if floating else np.zeros(shape, kind)
        )
    return feeds


def main(arguments: list[str] | None = None) -> int:
    """Print the figures as one line of JSON; 2 and a message on standard error for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_probe", description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--inter-op-threads", type=int, default=1)
    parser.add_argument("--optimization", choices=[o.value for o in Optimization], default="all")
    parser.add_argument("--provider", action="append", help="default: CPUExecutionProvider")
    parser.add_argument("--disable-optimizer", action="append", default=[])
    parser.add_argument("--config", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(arguments)
    settings = SessionSettings(
        providers=tuple(given.provider or ("CPUExecutionProvider",)),
        intra_op_threads=given.threads,
        inter_op_threads=given.inter_op_threads,
        optimization=Optimization(given.optimization),
        disabled_optimizers=tuple(given.disable_optimizer),
        config=dict(entry.split("=", 1) for entry in given.config),
    )
    try:
        figures = probe(given.model, settings, given.batch)
    except OctavoError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
