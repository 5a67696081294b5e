"""ONNX Runtime's execution providers by name, and the packages that bring them.

Some are built into a package that takes the place of ``onnxruntime``, some are a plug-in beside it
(onnxruntime.ai, "Plugin execution provider libraries"), which has to be registered before it can be named.
"""

import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import onnxruntime as ort

from quant.errors import BadInput, Unsupported

__all__ = ["CPU", "PROVIDERS", "Provider", "check_available", "full_names"]

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Provider:
    """An execution provider that has a short name.

    Attributes:
        name: ONNX Runtime's own name.
        install: what to install for it, for people.
        plugin: the Python module of its plug-in, if there is one.
    """

    name: str
    install: str
    plugin: str | None = None


_GPU = "pip install onnxruntime-gpu in place of onnxruntime"

PROVIDERS = {
    "cpu": Provider(CPU, "pip install onnxruntime"),
    "cuda": Provider("CUDAExecutionProvider", _GPU),
    "tensorrt": Provider("TensorrtExecutionProvider", f"{_GPU}, and TensorRT's libraries"),
    "tensorrt_rtx": Provider(
        "NvTensorRTRTXExecutionProvider",
        "pip install onnxruntime-ep-nv-tensorrt-rtx beside onnxruntime",
        "onnxruntime_ep_nv_tensorrt_rtx",
    ),
    "openvino": Provider(
        "OpenVINOExecutionProvider",
        "pip install onnxruntime-ep-openvino beside onnxruntime (Intel devices only), or "
        "onnxruntime-openvino in its place",
        "onnxruntime_ep_openvino",
    ),
}
"""Short name to provider; every other one goes by ONNX Runtime's own name."""

_BY_NAME = {provider.name: provider for provider in PROVIDERS.values()}


def full_names(names: Sequence[str]) -> tuple[str, ...]:
    """ONNX Runtime's own names of providers.

    Args:
        names: short or full names, in order of preference.

    Raises:
        BadInput: none is given, one is unknown, or one is named twice.
    """
    if not names:
        raise BadInput(f"no execution provider given; name at least one of {', '.join(PROVIDERS)}")
    full = tuple(_full_name(name) for name in names)
    if len(set(full)) != len(full):
        raise BadInput(f"an execution provider is named twice: {', '.join(names)}")
    return full


def check_available(names: Sequence[str]) -> None:
    """Refuse providers that cannot be used here; those of installed plug-ins are registered.

    Args:
        names: full names.

    Raises:
        Unsupported: saying what is there, and what to install.
    """
    reasons = [reason for reason in map(_missing, names) if reason]
    if reasons:
        raise Unsupported(
            f"{'; '.join(reasons)}; available in ONNX Runtime {ort.__version__}: "
            f"{', '.join(ort.get_available_providers())}"
        )


def _full_name(name: str) -> str:
    if name in PROVIDERS:
        return PROVIDERS[name].name
    if name in _BY_NAME or name in ort.get_all_providers() or name in ort.get_available_providers():
        return name
    raise BadInput(
        f"unknown execution provider '{name}'; known: {', '.join(PROVIDERS)}, and "
        "ONNX Runtime's own names, such as CPUExecutionProvider"
    )


def _missing(name: str) -> str | None:
    """Why a provider cannot be used here; None where it can."""
    known = _BY_NAME.get(name)
    if name in ort.get_available_providers():
        return None
    if known is not None and known.plugin is not None and find_spec(known.plugin) is not None:
        failed = _register(name, known.plugin)
        if failed is not None:
            return failed
        if name in ort.get_available_providers():
            return None
        return f"{name}: {known.plugin} is installed and finds no device here that it serves"
    how = f": {known.install}" if known is not None else ""
    return f"{name} is not in the installed ONNX Runtime{how}"


@functools.cache
def _register(name: str, plugin: str) -> str | None:
    """Load a plug-in, once for the process; why that failed, or None."""
    try:
        ort.register_execution_provider_library(name, importlib.import_module(plugin).get_library_path())
    except Exception as error:  # the plug-in's own code, and ORT's exceptions share no base class
        return f"{name}: {plugin} cannot be loaded: {' '.join(str(error).split())}"
    return None
