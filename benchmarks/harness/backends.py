"""What a measuring process can run. A new runtime is one function here, decorated with its name.

Each function imports its runtime itself, so that a process holds nothing but the one it measures.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy.runner import Runner
from quant.errors import BadInput

__all__ = ["BACKENDS", "Opener", "backend", "open_model"]

Options = Mapping[str, Any]
Opener = Callable[[], Runner]
"""Makes the runner; what takes time and memory for the model itself happens when its block is entered."""

BACKENDS: dict[str, Callable[[Path, int, Options], Opener]] = {}
"""Backend to a function of the model, the number of threads and the backend's own options. Its call imports
the runtime; the opener it returns loads the model."""


def backend(
    name: str,
) -> Callable[[Callable[[Path, int, Options], Opener]], Callable[[Path, int, Options], Opener]]:
    """Register a backend under a name."""

    def register(function: Callable[[Path, int, Options], Opener]) -> Callable[[Path, int, Options], Opener]:
        BACKENDS[name] = function
        return function

    return register


def open_model(name: str, model: Path, threads: int, options: Options) -> Opener:
    """Import a backend's runtime; the model is loaded by what is returned.

    Raises:
        BadInput: there is no such backend, or its options are wrong.
        Unsupported: its runtime is not installed.
    """
    if name not in BACKENDS:
        raise BadInput(f"there is no backend {name!r}; there are {', '.join(BACKENDS)}")
    return BACKENDS[name](model, threads, options)


@backend("onnxruntime")
def _onnxruntime(model: Path, threads: int, options: Options) -> Opener:
    """ONNX Runtime; options are those of `deploy.onnxruntime.build.SessionSettings`."""
    from deploy.onnxruntime.build import settings_from
    from deploy.onnxruntime.run import OrtRunner

    settings = settings_from({**options, "intra_op_threads": threads})
    return lambda: OrtRunner(model, settings)


@backend("openvino")
def _openvino(model: Path, threads: int, options: Options) -> Opener:
    """OpenVINO on the CPU; options are those of `deploy.openvino.build.CompileSettings`."""
    from deploy.openvino.build import CompileSettings, openvino_version
    from deploy.openvino.run import OpenVinoRunner

    openvino_version()  # imports it
    settings = CompileSettings(**{**options, "threads": threads})
    return lambda: OpenVinoRunner(model, settings)


@backend("pytorch")
def _pytorch(model: Path, threads: int, options: Options) -> Opener:
    """PyTorch without compilation; ``model`` is a run's folder, ``recipe`` asks for its fake-quant model."""
    from deploy.pytorch.run import TorchRunner

    return lambda: TorchRunner(model, options.get("recipe"), threads)
