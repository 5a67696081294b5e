"""Methods that prepare a graph for quantization; every module here is imported, so each registers itself."""

import pkgutil
from importlib import import_module

from quant.methods.registry import (
    ChannelRange,
    Method,
    MethodNote,
    Ranges,
    make_method,
    method_names,
    register_method,
)

__all__ = [
    "ChannelRange",
    "Method",
    "MethodNote",
    "Ranges",
    "make_method",
    "method_names",
    "register_method",
]

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
