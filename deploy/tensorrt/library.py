"""Find TensorRT, or TensorRT-RTX, which has the same parser and builds without a GPU."""

import importlib
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from types import ModuleType

from quant.errors import BadInput, Unsupported

__all__ = ["LIBRARIES", "Library", "find_library"]


@dataclass(frozen=True)
class Library:
    """A builder of engines.

    Attributes:
        key: of :data:`LIBRARIES`.
        name: for people.
        version: such as ``11.4.0.106``.
        module: its Python bindings.
    """

    key: str
    name: str
    version: str
    module: ModuleType

    @property
    def needs_gpu(self) -> bool:
        """Whether it builds only for the GPU of this machine."""
        return self.key == "tensorrt"

    @property
    def distributions(self) -> tuple[str, ...]:
        """The Python distributions it was installed from; none where the system's packages brought it."""
        owners = packages_distributions()
        parts = (self.key, f"{self.key}_bindings", f"{self.key}_libs")
        return tuple(sorted({name for part in parts for name in owners.get(part, ())}))


@dataclass(frozen=True)
class _Known:
    name: str
    modules: tuple[str, ...]
    install: str


LIBRARIES = {
    "tensorrt": _Known(
        "TensorRT", ("tensorrt",), "pip install 'octavo[tensorrt]' (Linux with an NVIDIA GPU)"
    ),
    "tensorrt_rtx": _Known(
        "TensorRT-RTX",
        ("tensorrt_rtx", "tensorrt_rtx_bindings"),
        "pip install 'octavo[rtx]'",
    ),
}
"""The libraries, the first one preferred."""


def find_library(key: str | None = None) -> Library:
    """Import a library.

    Args:
        key: of :data:`LIBRARIES`; the first that is installed where left out.

    Raises:
        BadInput: there is no library of that name.
        Unsupported: it, or none at all, is installed; the message says how to.
    """
    if key is not None and key not in LIBRARIES:
        raise BadInput(f"unknown library '{key}'; known: {', '.join(LIBRARIES)}")
    wanted = list(LIBRARIES) if key is None else [key]
    for one in wanted:
        found = _imported(one)
        if found is not None:
            return found
    ways = " or ".join(LIBRARIES[one].install for one in wanted)
    what = " and ".join(LIBRARIES[one].name for one in wanted)
    verb = "is" if len(wanted) == 1 else "are"
    raise Unsupported(f"{what} {verb} not installed: {ways}")


def _imported(key: str) -> Library | None:
    known = LIBRARIES[key]
    for name in known.modules:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):  # a stub without its libraries, or one that cannot load
            continue
        if hasattr(module, "Builder") and hasattr(module, "OnnxParser"):
            return Library(key, known.name, str(module.__version__), module)
    return None
