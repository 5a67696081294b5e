"""uvicorn, with what a hardened server needs besides: an end that loses nothing."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from deploy.serve.http_connection import Connection
from deploy.serve.settings import ServeSettings
from quant.errors import BadInput

__all__ = ["HttpServer", "listen"]

_QUIET_SECONDS = 0.25
_BACKLOG = 2048


class HttpServer(uvicorn.Server):
    """HTTP on a socket that listens already.

    Args:
        app: the ASGI application.
        settings: its limits.
    """

    def __init__(self, app: Any, settings: ServeSettings) -> None:
        protocol = type(
            "_Protocol",
            (Connection,),
            {"read_timeout_s": settings.read_timeout_s, "keep_alive_s": settings.keep_alive_s},
        )
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=settings.connections,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=max(1, round(settings.grace_s)),
                backlog=_BACKLOG,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the server that this one is part of."""
        yield

    def close_connections(self) -> None:
        """Ask every client to leave its connection with the next answer (RFC 9112, section 9.6)."""
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        for connection in self.server_state.connections:
            if connection.at_work:  # type: ignore[union-attr]
                connection.cycle.keep_alive = False  # type: ignore[union-attr]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, answer what came in until then, close what is quiet."""
        for listening in sockets or []:
            await self._accept_the_rest(listening)
        for server in self.servers:
            server.close()
        until = time.monotonic() + self._grace
        while time.monotonic() < until and self._restless():
            await asyncio.sleep(_QUIET_SECONDS / 10)
        self.config.timeout_graceful_shutdown = max(1, round(until - time.monotonic()))
        await super().shutdown(sockets)

    @property
    def _grace(self) -> float:
        return float(self.config.timeout_graceful_shutdown or 0)

    def _restless(self) -> bool:
        """Whether a request is being answered, or may be on its way on a connection just heard of."""
        now = time.monotonic()
        return any(
            connection.at_work or now - connection.heard < _QUIET_SECONDS  # type: ignore[union-attr]
            for connection in self.server_state.connections
        )

    async def _accept_the_rest(self, listening: socket.socket) -> None:
        """Clients that the system has connected already get their answer; closing would reset them."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> Any:
        config: Any = self.config
        return config.http_protocol_class(
            config=config, server_state=self.server_state, app_state=self.lifespan.state
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        BadInput: the address is unknown, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        raise BadInput(
            f"cannot listen at {host} port {port}: {error.strerror}; give another --host or --port"
        ) from error
    return sock
