"""Sensitivity metrics by name."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quant.errors import BadInput, InternalError
from quant.mixed.bench import Bench
from quant.mixed.sensitivity.sweep import Score, sweep
from quant.mixed.sensitivity.table import Sensitivity
from quant.recipe import near

__all__ = ["check_metric", "measure", "metric_names", "register_metric", "register_score", "score_of"]

Table = Callable[[Bench], NDArray[np.float64]]

_SCORES: dict[str, Score] = {}
_TABLES: dict[str, Table] = {}


def register_score(name: str) -> Callable[[Score], Score]:
    """Make a comparison of outputs a metric: ``score(float_output, output)`` gives [N], one number per image.

    Write one file in ``quant/mixed/sensitivity``; every module there is imported by itself.
    """

    def add(score: Score) -> Score:
        _refuse_twice(name)
        _SCORES[name] = score
        return score

    return add


def register_metric(name: str) -> Callable[[Table], Table]:
    """Make a function a metric that fills the table [groups, bits] by itself."""

    def add(table: Table) -> Table:
        _refuse_twice(name)
        _TABLES[name] = table
        return table

    return add


def metric_names() -> list[str]:
    """The known names, sorted."""
    return sorted(_SCORES | _TABLES)


def check_metric(name: str) -> None:
    """Find a wrong name before anything is measured.

    Raises:
        BadInput: no metric has that name.
    """
    if name not in metric_names():
        known = ", ".join(metric_names())
        raise BadInput(f"unknown sensitivity metric '{name}'{near(name, metric_names())}; known: {known}")


def score_of(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The comparison of outputs called ``name``."""
    return _SCORES[name]


def measure(bench: Bench, names: Iterable[str]) -> dict[str, Sensitivity]:
    """Measure several metrics; those that compare outputs share their passes.

    Raises:
        BadInput: no metric has that name.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        check_metric(name)
    scores = [name for name in names if name in _SCORES]
    found: dict[str, NDArray[np.float64]] = {}
    if scores:
        tables = sweep(bench, [_SCORES[name] for name in scores])
        found.update(zip(scores, tables, strict=True))
    found.update({name: _TABLES[name](bench) for name in names if name in _TABLES})
    groups = tuple(group.name for group in bench.groups)
    return {
        name: Sensitivity(
            metric=name,
            images=bench.image_count,
            groups=groups,
            bits=tuple(bench.bits),
            values=tuple(tuple(float(cell) for cell in row) for row in found[name]),
        )
        for name in names
    }


def _refuse_twice(name: str) -> None:
    if name in _SCORES or name in _TABLES:
        raise InternalError(f"two sensitivity metrics are registered as '{name}'")
