"""A connection of HTTP that one client cannot use to hold the server, or to fill its memory."""

import re
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["Connection"]

_LOOK_SECONDS = 1.0
_MOST_HEAD = 2**16  # bytes of a request that are not its body: its headers, what follows the last chunk
_MOST_AHEAD = 64  # requests sent before the answer to an earlier one
_UPGRADE = re.compile(rb"(?i)(?<=\r\n)upgrade(?=:)")


class Connection(HttpToolsProtocol):
    """uvicorn's, which has no limits of its own.

    It ends where a request's headers do not come to their end in time or are too large, where too many
    requests come ahead of their answers, and where the client does not take its answers.
    """

    read_timeout_s, keep_alive_s = 10.0, 65.0

    def connection_made(self, transport: Any) -> None:
        """Begin, and begin to look."""
        super().connection_made(transport)
        now = time.monotonic()
        self.heard, self._quiet_since, self._least = now, now, self.read_timeout_s
        self._unsent, self._taken = 0, now
        self._head_bytes, self._between = 0, True
        self._look = self.loop.call_later(_LOOK_SECONDS, self._look_after)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self.heard = time.monotonic()
        if self._between:
            data = _without_upgrade(data)
        self._between = False
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _MOST_HEAD and not self.transport.is_closing():
            self.logger.warning("Request headers are too large.")
            self._refuse("Request headers are too large.")

    def on_headers_complete(self) -> None:
        """Start to answer, unless too many wait for their turn."""
        self._head_bytes = 0
        super().on_headers_complete()
        if len(self.pipeline) > _MOST_AHEAD:
            raise ValueError("too many requests ahead of their answers")  # the parser makes it a bad request

    def on_body(self, body: bytes) -> None:
        """Keep a piece of a body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Know that a request is whole."""
        self._head_bytes, self._between = 0, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Take up the next request."""
        self._quiet_since, self._least = time.monotonic(), self.read_timeout_s + self.keep_alive_s
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._look.cancel()
        super().connection_lost(exc)

    @property
    def at_work(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, text: str) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.send_400_response(text)
        else:  # an answer may have begun
            self.transport.abort()

    def _look_after(self) -> None:
        now = time.monotonic()
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._taken = unsent, now
        silent = not self.at_work and now - self._quiet_since > self._least
        if silent or now - self._taken > self.read_timeout_s:
            self.transport.abort()
            return
        self._look = self.loop.call_later(_LOOK_SECONDS, self._look_after)


def _without_upgrade(data: bytes) -> bytes:
    """A request's first bytes, their wish for another protocol made unknown.

    A server may ignore the wish (RFC 9110, section 7.8), but the parser then takes the body for the other
    protocol's. ``curl --http2`` and Java's HttpClient ask for HTTP/2 with every first request.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"x-upgrade", head) + end + rest
