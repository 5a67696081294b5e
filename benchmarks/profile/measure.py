"""Measure how much a run's model loses with single layers quantized, as mixed precision does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, fx

from quant.calibrate import Batches, calibrate
from quant.calibrated import CalibratedGraph
from quant.errors import Unsupported
from quant.mixed.bench import Bench
from quant.mixed.budgets import make_constraints
from quant.mixed.formats import Formats
from quant.mixed.groups import find_groups
from quant.mixed.pareto import ParetoPoint, pareto_front
from quant.mixed.resolve import measured_recipe
from quant.mixed.sensitivity import Sensitivity, check_metric, measure
from quant.mixed.settings import MixedPrecision
from quant.progress import Progress, silent
from quant.recipe import parse

__all__ = ["LayerSensitivity", "asked", "measure_layers", "untuned"]


@dataclass(frozen=True)
class LayerSensitivity:
    """Sensitivity of every layer by some metrics, and the best widths by the first of them.

    Attributes:
        tables: by metric, all with the same rows and columns.
        front: choices of widths that no other beats in both mean bits and Σ Ω.
        uniform: by width: mean bits and Σ Ω with all layers there.
    """

    tables: Mapping[str, Sensitivity]
    front: tuple[ParetoPoint, ...]
    uniform: Mapping[int, tuple[float, float]]

    @property
    def first(self) -> Sensitivity:
        """The table of the first metric."""
        return next(iter(self.tables.values()))

    def ranked(self, metric: str) -> list[tuple[str, float]]:
        """The layers and what they lose at the narrowest width, most first."""
        table = self.tables[metric]
        lost = [row[0] for row in table.values]
        return sorted(zip(table.groups, lost, strict=True), key=lambda layer: -layer[1])


def asked(metrics: Sequence[str], bits: Sequence[int], calibrated: CalibratedGraph) -> MixedPrecision:
    """What to measure, as the section of a recipe with these widths and the first metric.

    Args:
        metrics: one name or several.
        bits: two widths or more.
        calibrated: on what.

    Raises:
        BadInput: a metric or a width does not exist; the message names those that do.
        Unsupported: a layer's format has only one width.
    """
    for metric in metrics:
        check_metric(metric)
    budget = {"kind": "mean_bits", "value": 8}  # of no effect: the limit is swept
    values = {"bits": tuple(bits), "metric": metrics[0], "budget": budget}
    settings = parse(MixedPrecision, values, "sensitivity")
    for site in (site for group in find_groups(calibrated, settings.operands) for site in group.sites):
        if site.spec.scheme == "fp8_e4m3":
            raise Unsupported(
                f"'{site.name}' is written in fp8_e4m3, which has only one width, so that the sensitivity to "
                "widths cannot be measured; profile a recipe of integer formats"
            )
    return settings


def untuned(
    calibrated: CalibratedGraph, graph: fx.GraphModule, batches: Batches, progress: Progress = silent
) -> CalibratedGraph:
    """The calibration as it is, or a new one where weights were tuned to the recipe's own widths.

    Args:
        calibrated: of the run.
        graph: the captured float graph; it is not changed.
        batches: the calibration images.
        progress: told what is done.
    """
    recipe = measured_recipe(calibrated.recipe)
    if recipe.methods == calibrated.recipe.methods:
        return calibrated
    return calibrate(graph, recipe, batches, progress)


def measure_layers(
    calibrated: CalibratedGraph,
    images: Sequence[Tensor],
    metrics: Sequence[str],
    settings: MixedPrecision,
    progress: Progress = silent,
) -> LayerSensitivity:
    """Measure every layer that the recipe quantizes; layers that share a tensor count as one.

    Args:
        calibrated: without tuned weights; its fake-quant layers are left off.
        images: batches [N, C, H, W].
        metrics: names of :mod:`quant.mixed.sensitivity`.
        settings: of these metrics, see :func:`asked`.
        progress: told what is done.
    """
    groups = find_groups(calibrated, settings.operands)
    bench = Bench(
        graph=calibrated.graph,
        groups=groups,
        bits=settings.bits,
        formats=Formats(calibrated, groups, settings.bits),
        images=images,
        probes=settings.probes,
        seed=settings.seed,
        progress=progress,
    )
    tables = measure(bench, metrics)
    omega = tables[metrics[0]].omega
    (constraint,) = make_constraints(settings.budget[0], groups, settings.bits, {}, calibrated)
    uniform = {
        bits: (constraint.total(np.full(len(groups), column)), float(omega[:, column].sum()))
        for column, bits in enumerate(settings.bits)
    }
    return LayerSensitivity(tables, pareto_front(omega, constraint), uniform)
