"""How many requests are let in at a time, how many bytes they bring, and when no more are."""

from collections.abc import Iterator
from contextlib import contextmanager

from deploy.serve.refusal import Refused

__all__ = ["Gate"]


class Gate:
    """Counts the requests inside. Used from the event loop only.

    Args:
        requests: let in at a time.
        pending_bytes: of their bodies together.
    """

    def __init__(self, requests: int, pending_bytes: int) -> None:
        self._requests, self._most_bytes = requests, pending_bytes
        self.inside = 0
        self.bytes_inside = 0
        self.ready = False
        self.draining = False

    @contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """Hold a place for a request.

        Args:
            size: bytes of its body, at most.

        Raises:
            Refused: 503 before the warm-up is done; 429 where all places or bytes are taken.
        """
        if not self.ready:
            raise Refused(503, "the server is not ready yet; ask /v2/health/ready", "not_ready")
        if self.inside >= self._requests:
            raise Refused(
                429, f"{self._requests} requests are waiting already; try again later", "queue_full"
            )
        with self.holding(size):
            self.inside += 1
            try:
                yield
            finally:
                self.inside -= 1

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold room for bytes.

        Args:
            size: of a request that has a place.

        Raises:
            Refused: 429 where there is no room.
        """
        if self.bytes_inside + size > self._most_bytes:
            raise Refused(429, "too many bytes are waiting already; try again later", "bytes_full")
        self.bytes_inside += size
        try:
            yield
        finally:
            self.bytes_inside -= size
