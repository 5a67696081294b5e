"""Reading a request's body: never more than is allowed, never longer than is allowed."""

import asyncio
import contextlib
import time

from starlette.requests import ClientDisconnect, Request

from deploy.serve.refusal import Refused
from deploy.serve.settings import ServeSettings
from deploy.serve.tensors import whole_number

__all__ = ["announced_size", "read_body", "skip_body"]


def announced_size(request: Request, settings: ServeSettings) -> int:
    """Bytes that the body can have: what its header says, or all that is allowed.

    Raises:
        Refused: 413, more than is allowed; 415, it is compressed.
    """
    if request.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise Refused(415, "compressed bodies are not taken; leave content-encoding out", "invalid")
    length = request.headers.get("content-length")
    most = settings.max_request_bytes
    if length is None:
        return most
    size = whole_number(length)
    if size is None or size > most:
        raise _too_large(most)
    return size


async def read_body(request: Request, settings: ServeSettings, arrived: float) -> bytes:
    """The body.

    Args:
        request: it.
        settings: its limits.
        arrived: when it did, on :func:`time.perf_counter`'s clock.

    Raises:
        Refused: 413, it is larger than allowed; 408, it did not come in time; 400, it was broken off.
    """
    chunks: list[bytes] = []
    size, most = 0, settings.max_request_bytes
    try:
        async with asyncio.timeout(max(arrived + settings.read_timeout_s - time.perf_counter(), 0)):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                chunks.append(chunk)
    except TimeoutError:
        raise Refused(408, f"the body did not come within {settings.read_timeout_s:g} s", "slow") from None
    except ClientDisconnect:
        raise Refused(400, "the connection ended before the body did", "broken_off") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def skip_body(request: Request, settings: ServeSettings, draining: bool) -> None:
    """Take the rest of a body that was refused, where the connection ends with the answer.

    A connection that is closed over bytes nobody read is reset, and the answer with it.

    Args:
        request: it.
        settings: their ``read_timeout_s`` is how long it may take.
        draining: whether the server closes all connections.
    """
    headers = request.headers
    stays = request.scope["http_version"] == "1.1" and "close" not in headers.get("connection", "").lower()
    if "expect" in headers or (stays and not draining):
        return
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: it was read whole
        async with asyncio.timeout(settings.read_timeout_s):
            async for _ in request.stream():
                pass


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body has more than the {most} bytes that are allowed", "too_large")
