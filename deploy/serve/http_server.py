"""uvicorn, with what a hardened server needs besides: an end that loses nothing."""

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from deploy.serve.http_connection import Connection
from deploy.serve.settings import ServeSettings
from quant.errors import BadInput

__all__ = ["HttpServer", "listen"]

_QUIET_SECONDS, _NEW_SECONDS = 0.25, 1.0  # since a connection was heard; since one was made that said nothing
_BACKLOG = 2048
_SO_ATTACH_FILTER, _BPF_RETURN = 26, 0x06  # of linux/filter.h; Python has no names for them


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
            _deafen(listening)
            await self._accept_the_rest(listening)
            await asyncio.sleep(_QUIET_SECONDS / 10)  # for what was on its way through the system
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
        connections: Any = self.server_state.connections
        return any(
            connection.at_work
            or now - connection.heard < (_NEW_SECONDS if connection.cycle is None else _QUIET_SECONDS)
            for connection in connections
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


def _deafen(listening: socket.socket) -> None:
    """Have the system drop every packet that asks for a connection, where it can (Linux, socket(7)).

    One made between the last that is taken and the end of listening would be reset, with the request on it.
    A packet that is dropped is sent again after a second, to whoever listens then.
    """
    if not sys.platform.startswith("linux"):
        return
    let_nothing_pass = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(let_nothing_pass))
    with contextlib.suppress(OSError):  # forbidden by a sandbox, perhaps
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


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
