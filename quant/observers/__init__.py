"""Observers choose the range of a tensor from the values seen during calibration.

Every module of this package is imported here, so an observer is added by one file with one decorator: see
:func:`quant.observers.registry.register_observer`.
"""

import pkgutil
from importlib import import_module

from quant.observers.base import Observer
from quant.observers.registry import make_observer, observer_names, register_observer

__all__ = ["Observer", "make_observer", "observer_names", "register_observer"]

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
