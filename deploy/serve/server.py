"""A server from its bundles to its end.

It listens at once and is ready after the warm-up. At SIGTERM or SIGINT it says that it is not ready, and for
``drain_s`` still takes requests, each answered with the wish to close the connection, so that clients and
load balancers go elsewhere; then it stops listening, answers all that it let in, and ends.
"""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from deploy.bundle import Bundle
from deploy.serve.gate import Gate
from deploy.serve.grpc_server import GrpcServer
from deploy.serve.http_server import HttpServer, listen
from deploy.serve.logs import report
from deploy.serve.metrics import Metrics
from deploy.serve.model import ServedModel, open_model
from deploy.serve.rest import build_app
from deploy.serve.service import Service, product_version
from deploy.serve.settings import ServeSettings
from quant.errors import BadInput

__all__ = ["serve"]

_DECODERS = 2
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(bundles: Sequence[tuple[str | None, Bundle]], settings: ServeSettings) -> None:
    """Serve until a signal.

    Args:
        bundles: each with the name that requests call it by, or None.
        settings: limits and sizes.

    Raises:
        BadInput: there is none, two have one name, or a port is taken.
        Unsupported: a bundle cannot be served.
    """
    started = time.perf_counter()
    metrics = Metrics()
    models: dict[str, ServedModel] = {}
    for name, bundle in bundles:
        model = open_model(name, bundle, settings, metrics)
        if model.name in models:
            raise BadInput(f"two bundles are called '{model.name}'; name them: NAME=BUNDLE")
        models[model.name] = model
    if not models:
        raise BadInput("there is no bundle; give at least one")
    gate = Gate(settings.queue, settings.max_pending_bytes)
    asyncio.run(_run(Service(models, settings, metrics, gate), started))


async def _run(service: Service, started: float) -> None:
    settings, gate, metrics = service.settings, service.gate, service.metrics
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    metrics.state(
        lambda: gate.inside,
        lambda: sum(model.waiting for model in service.models.values()),
        lambda: service.ready,
    )
    with ThreadPoolExecutor(_DECODERS, "decode") as decoders:
        sock = listen(settings.host, settings.port)
        http = HttpServer(build_app(service, decoders), settings)
        grpc = GrpcServer(service) if settings.grpc_port is not None else None
        grpc_port = await grpc.start() if grpc else None
        for number in _SIGNALS:
            loop.add_signal_handler(number, stop.set)
        serving = asyncio.create_task(http.serve(sockets=[sock]))
        ports = {"host": settings.host, "port": sock.getsockname()[1], "grpc_port": grpc_port}
        report("listening", pid=os.getpid(), octavo=product_version(), **ports)
        warming = asyncio.create_task(_warm_up(service, started))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, warming, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if warming.done():
            warming.result()  # a bug there ends the server
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        gate.draining = True
        loop.remove_signal_handler(signal.SIGINT)  # a second Ctrl-C ends it at once
        report("draining", inside=gate.inside)
        http.close_connections()
        await asyncio.sleep(settings.drain_s)
        http.should_exit = True
        ends = [serving] if grpc is None else [serving, asyncio.create_task(grpc.stop())]
        await asyncio.gather(*ends)
        stopping.cancel()
        await asyncio.gather(warming, return_exceptions=True)
        for model in service.models.values():
            await model.close()
    report("ended")


async def _warm_up(service: Service, started: float) -> None:
    for model in service.models.values():
        manifest = model.bundle.manifest
        service.metrics.model(model.name, manifest.variant, manifest.target, model.bundle.digest)
        await asyncio.get_running_loop().run_in_executor(None, model.warm_up)
        model.start()
    service.gate.ready = True
    report("ready", models=list(service.models), seconds=round(time.perf_counter() - started, 3))
