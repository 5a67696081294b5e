"""What Prometheus is told; the names are for dashboards and do not change."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one server, in a registry of its own.

    ``octavo_requests_total{model,protocol,status}`` counts answers, refusals included;
    ``octavo_request_seconds{model,protocol}`` is the time from arrival to answer of those that were computed,
    ``octavo_queue_seconds{model}`` what of it was waiting, ``octavo_infer_seconds{model}`` and
    ``octavo_batch_rows{model}`` the time and size of batches; ``octavo_refused_total{reason}`` says why;
    ``octavo_in_flight`` are requests let in, and ``octavo_waiting`` those of them that no worker has taken;
    ``octavo_accepted_total`` counts the ones let in; ``octavo_ready`` is 1 or 0;
    ``octavo_model_info{model,variant,target,digest}`` is 1. Memory, CPU time and open files are
    prometheus_client's ``process_*``.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._requests = Counter(
            "octavo_requests", "Answers.", ("model", "protocol", "status"), registry=registry
        )
        self._seconds = Histogram(
            "octavo_request_seconds",
            "From a request's arrival to its answer.",
            ("model", "protocol"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue = Histogram(
            "octavo_queue_seconds",
            "From a request's arrival to its batch.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._infer = Histogram(
            "octavo_infer_seconds", "Of a batch.", ("model",), buckets=_SECONDS, registry=registry
        )
        self._rows = Histogram(
            "octavo_batch_rows", "Samples of a batch.", ("model",), buckets=_ROWS, registry=registry
        )
        self._refused = Counter("octavo_refused", "Requests not answered.", ("reason",), registry=registry)
        self._accepted = Counter("octavo_accepted", "Requests let in.", registry=registry)
        self._in_flight = Gauge("octavo_in_flight", "Requests inside.", registry=registry)
        self._waiting = Gauge("octavo_waiting", "Requests that no worker has taken.", registry=registry)
        self._ready = Gauge("octavo_ready", "Whether requests are welcome.", registry=registry)
        self._info = Gauge(
            "octavo_model_info",
            "A model being served.",
            ("model", "variant", "target", "digest"),
            registry=registry,
        )

    def state(
        self, in_flight: Callable[[], float], waiting: Callable[[], float], ready: Callable[[], float]
    ) -> None:
        """Say whom to ask for the gauges."""
        self._in_flight.set_function(in_flight)
        self._waiting.set_function(waiting)
        self._ready.set_function(ready)

    def model(self, name: str, variant: str, target: str, digest: str) -> None:
        """Announce a model."""
        self._info.labels(name, variant, target, digest).set(1)

    def accepted(self) -> None:
        """Count a request that was let in."""
        self._accepted.inc()

    def answered(self, model: str, protocol: str, status: str, seconds: float | None) -> None:
        """Count an answer.

        Args:
            model: one that is served, or ``''``.
            protocol: ``rest``, ``image`` or ``grpc``.
            status: of HTTP, or the name of gRPC's.
            seconds: it took, of those that were computed.
        """
        self._requests.labels(model, protocol, status).inc()
        if seconds is not None:
            self._seconds.labels(model, protocol).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self._refused.labels(reason).inc()

    def waited(self, model: str, seconds: float) -> None:
        """A request got into a batch after this time."""
        self._queue.labels(model).observe(seconds)

    def batch(self, model: str, rows: int, seconds: float) -> None:
        """A batch was computed."""
        self._rows.labels(model).observe(rows)
        self._infer.labels(model).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
