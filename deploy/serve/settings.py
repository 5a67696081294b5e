"""What a server is started with."""

from dataclasses import dataclass

from quant.errors import BadInput

__all__ = ["ServeSettings"]

_MIB = 2**20


@dataclass(frozen=True)
class ServeSettings:
    """Limits and sizes of a server; every one is checked here.

    Attributes:
        host: address that both ports listen at.
        port: of HTTP; 0 takes a free one.
        grpc_port: of gRPC; 0 takes a free one, None has no gRPC.
        workers: batches of one model computed side by side.
        threads: of ONNX Runtime inside one batch.
        max_batch: rows run together, at most; requests that wait at the same time share a batch.
        batch_delay_ms: how long a request may wait for others to share its batch with; 0 never waits, and
            takes what is there.
        queue: requests let in at a time, over all models, waiting or running; the next is refused (429).
        max_request_mib: of one request's body.
        max_pending_mib: of all bodies let in at a time.
        max_megapixels: of an image.
        timeout_s: from a request's arrival to its answer; then 503.
        read_timeout_s: for a request to arrive whole, and for its answer to be taken; then 408, or the
            connection is closed.
        keep_alive_s: how long an idle connection is kept.
        connections: of HTTP, at most; then 503.
        drain_s: after SIGTERM, how long the server still takes requests while it says it is not ready.
        grace_s: after that, how long requests that were let in may take.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = 8081
    workers: int = 1
    threads: int = 1
    max_batch: int = 4
    batch_delay_ms: float = 0.0
    queue: int = 64
    max_request_mib: float = 16.0
    max_pending_mib: float = 256.0
    max_megapixels: float = 50.0
    timeout_s: float = 30.0
    read_timeout_s: float = 10.0
    keep_alive_s: int = 65
    connections: int = 512
    drain_s: float = 1.0
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        for name, least, most in _ALLOWED:
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # which NaN is not, either
                raise BadInput(f"--{name.replace('_', '-')} is {value}; allowed is {least} to {most}")

    @property
    def max_request_bytes(self) -> int:
        """Of one request's body."""
        return int(self.max_request_mib * _MIB)

    @property
    def max_pending_bytes(self) -> int:
        """Of all bodies let in at a time; one of the largest always fits."""
        return max(int(self.max_pending_mib * _MIB), self.max_request_bytes)


_ALLOWED = (
    ("port", 0, 65535),
    ("grpc_port", 0, 65535),
    ("workers", 1, 256),
    ("threads", 1, 1024),
    ("max_batch", 1, 1024),
    ("batch_delay_ms", 0, 60_000),
    ("queue", 1, 100_000),
    ("max_request_mib", 0.001, 1024),
    ("max_pending_mib", 0.001, 2**20),
    ("max_megapixels", 0.001, 1000),
    ("timeout_s", 0.01, 3600),
    ("read_timeout_s", 0.01, 3600),
    ("keep_alive_s", 1, 3600),
    ("connections", 1, 100_000),
    ("drain_s", 0, 600),
    ("grace_s", 0, 3600),
)
