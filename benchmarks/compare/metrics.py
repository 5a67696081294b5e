"""The figures that two runs can be compared by, each in the unit a person writes limits in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.report.audit import audit_view
from benchmarks.results import Variant

__all__ = ["METRICS", "Metric", "Read"]

Read = Callable[[Variant], float | None]
"""The figure of a variant in the metric's unit, None where it was not measured."""

_MIB = 2.0**20


@dataclass(frozen=True)
class Metric:
    """A figure.

    Attributes:
        name: as conditions write it.
        title: for tables.
        unit: of values and, where limits have no %, of limits.
        read: from a variant; None for a latency.
        quantile: of a latency, in [0, 1].
    """

    name: str
    title: str
    unit: str
    read: Read | None = None
    quantile: float | None = None

    @property
    def relative(self) -> bool:
        """Whether a limit may be given in percent of the figure; shares have points instead."""
        return self.unit not in ("points", "dB")


def _part(part: str, attribute: str, factor: float = 1.0) -> Read:
    def read(variant: Variant) -> float | None:
        owner: Any = getattr(variant, part)
        value = None if owner is None else getattr(owner, attribute)
        return None if value is None else factor * float(value)

    return read


def _accuracy(attribute: str) -> Read:
    return _part("accuracy", attribute, 100.0)


def _integer_share(variant: Variant) -> float | None:
    view = audit_view(variant)
    return None if view is None else 100.0 * view.total_share


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("top1", "top-1", "points", _accuracy("top1")),
        Metric("top5", "top-5", "points", _accuracy("top5")),
        Metric("precision", "precision (macro)", "points", _accuracy("precision")),
        Metric("recall", "recall (macro)", "points", _accuracy("recall")),
        Metric("f1", "F1 (macro)", "points", _accuracy("f1")),
        Metric("agreement", "same answer as the reference", "points", _accuracy("agreement")),
        Metric("sqnr", "logit SQNR", "dB", _part("accuracy", "sqnr_db")),
        Metric("latency_p50", "median latency", "ms", quantile=0.5),
        Metric("latency_p90", "p90 latency", "ms", quantile=0.9),
        Metric("latency_p99", "p99 latency", "ms", quantile=0.99),
        Metric("memory", "peak memory", "MiB", _part("memory", "peak_mib")),
        Metric("model_memory", "memory of the model alone", "MiB", _part("memory", "peak_delta_mib")),
        Metric("size", "file size", "MiB", lambda variant: variant.size_bytes / _MIB),
        Metric("integer_share", "MACs in integers", "points", _integer_share),
    )
}
