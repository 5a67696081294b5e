"""HTTP: the Open Inference Protocol, an image's answers, metrics, and the page.

Protocol: ``open-inference-protocol``, specification/protocol/inference_rest.md.
"""

import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.serve.body import announced_size, read_body, skip_body
from deploy.serve.images import classify
from deploy.serve.json_tensors import JSON_LENGTH, parse_request, render_answer
from deploy.serve.logs import LOGGER, report
from deploy.serve.model import ServedModel
from deploy.serve.page import page_routes
from deploy.serve.refusal import Refused
from deploy.serve.service import Service

__all__ = ["build_app"]

_RETRY_SECONDS = "1"

Handler = Callable[[Request], Awaitable[Response]]


def build_app(service: Service, executor: Executor) -> Starlette:
    """The application.

    Args:
        service: what it offers.
        executor: where images are decoded.
    """
    rest = partial(_Computing, service, executor)
    infer, image = rest("rest", _infer), rest("image", _classify)
    routes = [
        Route("/v2", _about(lambda _: service.metadata())),
        Route("/v2/models", _about(lambda _: {"models": service.catalogue()})),
        Route("/v2/health/live", _about(lambda _: {"live": True})),
        Route("/v2/health/ready", _about(partial(_ready, service))),
        *(
            route
            for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
            for route in (
                Route(prefix, _about(lambda r: service.model_metadata(_asked(service, r)))),
                Route(f"{prefix}/ready", _about(partial(_model_ready, service))),
                Route(f"{prefix}/infer", infer, methods=["POST"]),
                Route(f"{prefix}/classify", image, methods=["POST"]),
            )
        ),
        Route("/metrics", partial(_metrics, service)),
        *page_routes(),
    ]
    handlers: dict[Any, Any] = {HTTPException: partial(_http_error, service), Refused: _refusal}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _asked(service: Service, request: Request) -> ServedModel:
    return service.model(request.path_params["name"], request.path_params.get("version", ""))


def _about(tell: Callable[[Request], dict[str, Any]]) -> Handler:
    async def handle(request: Request) -> Response:
        return _json(tell(request))

    return handle


def _ready(service: Service, _: Request) -> dict[str, Any]:
    if not service.ready:
        raise Refused(503, "not ready", "not_ready")
    return {"ready": True}


def _model_ready(service: Service, request: Request) -> dict[str, Any]:
    model = _asked(service, request)
    return {"name": model.name, **_ready(service, request)}


async def _metrics(service: Service, _: Request) -> Response:
    return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})


async def _infer(
    service: Service, executor: Executor, model: ServedModel, request: Request, body: bytes, arrived: float
) -> tuple[Response, dict[str, Any]]:
    del executor
    parsed = parse_request(body, request.headers.get(JSON_LENGTH), model)
    computed = await service.infer(model, parsed.inputs, arrived)
    content, headers = render_answer(model, parsed, computed.outputs)
    told = {
        "rows": len(parsed.inputs),
        "batch_rows": computed.rows,
        "queue_ms": round(1e3 * computed.queue_s, 3),
        "infer_ms": round(1e3 * computed.infer_s, 3),
        "id": parsed.id,
    }
    return Response(content, headers=headers), told


async def _classify(
    service: Service, executor: Executor, model: ServedModel, request: Request, body: bytes, arrived: float
) -> tuple[Response, dict[str, Any]]:
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise Refused(415, "send the image itself as the body (curl --data-binary @FILE), no form", "invalid")
    top = request.query_params.get("top", "5")
    answer = await classify(service, model, body, top, arrived, executor)
    told = {"batch_rows": answer["batch_rows"], **{f"{part}_ms": ms for part, ms in answer["ms"].items()}}
    return _json(answer), told


class _Computing:
    """An endpoint that computes: let in, read, answered, counted and logged, whatever happens."""

    def __init__(self, service: Service, executor: Executor, protocol: str, handle: Any) -> None:
        self._service, self._executor, self._protocol, self._handle = service, executor, protocol, handle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request, arrived = Request(scope, receive), time.perf_counter()
        service, name, told, body = self._service, "", {}, b""
        try:
            model = _asked(service, request)
            name = model.name
            with service.admitted(announced_size(request, service.settings)):
                body = await read_body(request, service.settings, arrived)
                response, told = await self._handle(service, self._executor, model, request, body, arrived)
        except Refused as refused:
            response = _refused(refused)
            service.metrics.refused(refused.reason)
            told = {"reason": refused.reason, "error": refused.text}
            await skip_body(request, service.settings, service.gate.draining)
        except Exception:
            LOGGER.exception("bug")
            response = _bug()
        seconds = time.perf_counter() - arrived
        done = response.status_code == 200
        service.metrics.answered(name, self._protocol, str(response.status_code), seconds if done else None)
        report(
            "request",
            protocol=self._protocol,
            model=name,
            status=response.status_code,
            ms=round(1e3 * seconds, 3),
            bytes=len(body),
            **told,
        )
        if not body and "expect" in request.headers:  # what the client does with a body not asked for, varies
            response.headers["connection"] = "close"
        await response(scope, receive, send)


def _json(values: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(values), status, {"content-type": "application/json"})


def _refused(refused: Refused) -> Response:
    response = _json({"error": refused.text}, refused.status)
    if refused.status in (429, 503):
        response.headers["retry-after"] = _RETRY_SECONDS
    return response


async def _refusal(_: Request, error: Refused) -> Response:
    return _refused(error)


async def _http_error(service: Service, request: Request, error: HTTPException) -> Response:
    allowed = (error.headers or {}).get("Allow", "another method")
    texts = {
        404: "there is nothing at this address; the protocol begins at /v2",
        405: f"this address takes {allowed} only",
    }
    await skip_body(request, service.settings, service.gate.draining)
    response = _json({"error": texts.get(error.status_code, str(error.detail))}, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _bug() -> Response:
    return _json({"error": "a bug in the server; its log has the details"}, 500)
