"""gRPC: the service of the Open Inference Protocol on grpcio's server, in the event loop of HTTP's."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from deploy.serve.grpc_tensors import inputs_of, response_of
from deploy.serve.logs import LOGGER, report
from deploy.serve.messages import METHODS, SERVICE, message
from deploy.serve.refusal import Refused, bad_request
from deploy.serve.service import Service
from quant.errors import BadInput

__all__ = ["GrpcServer"]

_SPARE = 16  # calls beside those let in: health, metadata, and refusals
_QUIET_S, _MOST_QUIET_S = 0.5, 5.0
_ENVELOPE = 2**16  # bytes of a message around its tensor


class GrpcServer:
    """The service, and an end that loses nothing.

    Args:
        service: what it offers; its settings have the address.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._ending, self._heard, self._working = service, False, 0.0, 0
        settings = service.settings
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.queue + _SPARE,
            options=[
                ("grpc.max_receive_message_length", settings.max_request_bytes + _ENVELOPE),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", settings.queue + _SPARE),  # of one connection
                ("grpc.so_reuseport", 0),  # a second server at the same port is a mistake
            ],
        )
        tell: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda _: message("ServerLiveResponse")(live=True),
            "ServerReady": lambda _: message("ServerReadyResponse")(ready=service.ready),
            "ModelReady": partial(_model_ready, service),
            "ServerMetadata": lambda _: message("ServerMetadataResponse")(**service.metadata()),
            "ModelMetadata": partial(_model_metadata, service),
        }
        handlers = {
            # To the client each is unary. As a stream, its one message is ours to wait for, and not for ever.
            name: grpc.stream_unary_rpc_method_handler(
                partial(self._answer, name, tell.get(name)), response_serializer=_serialized
            )
            for name in METHODS
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def start(self) -> int:
        """Listen.

        Returns:
            The port.

        Raises:
            BadInput: the port is taken, or cannot be listened at.
        """
        settings = self._service.settings
        try:
            port: int = self._server.add_insecure_port(f"{_address(settings.host)}:{settings.grpc_port}")
        except RuntimeError as error:
            raise BadInput(
                f"gRPC cannot listen at {settings.host} port {settings.grpc_port}; is it taken? Give another "
                "--grpc-port, or --no-grpc"
            ) from error
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Send new calls elsewhere, answer those that were let in, and end.

        A call that arrives while grpcio's server stops is cancelled, which does not tell the client that it
        may ask again, and one is likely to come right behind an answer. So first every new call is refused as
        unavailable, which does tell it, until all that were let in have their answer and none comes any more.
        """
        self._ending = True
        grace_s, began = self._service.settings.grace_s, time.monotonic()
        while (now := time.monotonic()) < began + grace_s:
            if not self._working and now > min(self._heard + _QUIET_S, began + _MOST_QUIET_S):
                break
            await asyncio.sleep(_QUIET_S / 10)
        await self._server.stop(max(began + grace_s - time.monotonic(), 0))

    async def _answer(self, name: str, tell: Callable[[Any], Any] | None, _: Any, context: Any) -> Any:
        service, self._heard = self._service, time.monotonic()
        try:
            if self._ending:
                raise Refused(503, "the server is ending; ask another", "ending")
            if tell is None:
                return await self._infer(context)
            return tell(_parsed(name, await _received(context, service.settings.read_timeout_s)))
        except Refused as refused:
            await context.abort(getattr(grpc.StatusCode, refused.grpc_code), refused.text)
        except grpc.aio.AbortError:
            raise
        except Exception:
            LOGGER.exception("bug")
            await context.abort(grpc.StatusCode.INTERNAL, "a bug in the server; its log has the details")

    async def _infer(self, context: Any) -> Any:
        self._working += 1
        try:
            return await _infer(self._service, context)
        finally:
            self._working -= 1
            self._heard = time.monotonic()


def _address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _serialized(response: Any) -> bytes:
    return bytes(response.SerializeToString())


def _model_ready(service: Service, request: Any) -> Any:
    service.model(request.name, request.version)
    return message("ModelReadyResponse")(ready=service.ready)


def _model_metadata(service: Service, request: Any) -> Any:
    told = service.model_metadata(service.model(request.name, request.version))
    return message("ModelMetadataResponse")(**told)


async def _received(context: Any, seconds: float) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            content: bytes = await context.read()  # the iterator would keep the message until it is collected
    except TimeoutError:
        raise Refused(408, f"the message did not come within {seconds:g} s", "slow") from None
    if content is grpc.aio.EOF:
        bad_request("the call has no message")
    return content


def _parsed(name: str, content: bytes) -> Any:
    """Parse here, for grpcio calls a message that cannot be parsed a bug of the server's."""
    try:
        return message(f"{name}Request").FromString(content)
    except DecodeError:
        bad_request(f"the message is no {name}Request")


async def _infer(service: Service, context: Any) -> Any:
    """Find a place first: a message that is refused is not received."""
    arrived, status, name, size = time.perf_counter(), "OK", "", 0
    told: dict[str, Any] = {}
    try:
        with service.admitted(0), ExitStack() as held:
            content = await _received(context, service.settings.read_timeout_s)
            size = len(content)
            held.enter_context(service.gate.holding(size))
            request = _parsed("ModelInfer", content)
            del content
            model = service.model(request.model_name, request.model_version)
            name = model.name
            inputs = inputs_of(request, model)
            computed = await service.infer(model, inputs, arrived)
            told = {
                "rows": len(inputs),
                "batch_rows": computed.rows,
                "queue_ms": round(1e3 * computed.queue_s, 3),
                "infer_ms": round(1e3 * computed.infer_s, 3),
            }
            return response_of(request, model, computed.outputs)
    except Refused as refused:
        status, told = refused.grpc_code, {"reason": refused.reason, "error": refused.text}
        service.metrics.refused(refused.reason)
        raise
    except BaseException as error:
        status = "CANCELLED" if isinstance(error, asyncio.CancelledError) else "INTERNAL"
        raise
    finally:
        seconds = time.perf_counter() - arrived
        service.metrics.answered(name, "grpc", status, seconds if status == "OK" else None)
        report(
            "request",
            protocol="grpc",
            model=name,
            status=status,
            ms=round(1e3 * seconds, 3),
            bytes=size,
            **told,
        )
