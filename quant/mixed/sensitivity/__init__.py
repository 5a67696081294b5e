"""How much a network loses when one layer is quantized, by several metrics."""

import pkgutil
from importlib import import_module

from quant.mixed.sensitivity.registry import (
    check_metric,
    measure,
    metric_names,
    register_metric,
    register_score,
    score_of,
)
from quant.mixed.sensitivity.table import Sensitivity

__all__ = [
    "Sensitivity",
    "check_metric",
    "measure",
    "metric_names",
    "register_metric",
    "register_score",
    "score_of",
]

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
