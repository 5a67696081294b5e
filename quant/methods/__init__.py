"""Methods that a recipe can name; every module here is imported, so each registers itself."""

import pkgutil
from importlib import import_module

from quant.methods.registry import (
    GraphMethod,
    LayerMethod,
    Method,
    MethodNote,
    MethodOptions,
    ModelMethod,
    make_method,
    method_names,
    register_method,
)
from quant.methods.statistics import ChannelRange, Statistics

__all__ = [
    "ChannelRange",
    "GraphMethod",
    "LayerMethod",
    "Method",
    "MethodNote",
    "MethodOptions",
    "ModelMethod",
    "Statistics",
    "make_method",
    "method_names",
    "register_method",
]

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
