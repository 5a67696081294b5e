"""What a server offers, whatever protocol asks: its models, let in through one gate."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from numpy.typing import NDArray

from deploy.serve.batcher import Computed
from deploy.serve.gate import Gate
from deploy.serve.metrics import Metrics
from deploy.serve.model import ServedModel
from deploy.serve.refusal import Refused
from deploy.serve.settings import ServeSettings
from deploy.serve.tensors import short

__all__ = ["EXTENSIONS", "MODEL_VERSION", "Service", "product_version"]

EXTENSIONS = ("binary_tensor_data",)
MODEL_VERSION = "1"
"""A bundle is one version of a model; requests may leave it out."""


@dataclass(frozen=True)
class Service:
    """The models of a server and what they share.

    Attributes:
        models: by name.
        settings: of the server.
        metrics: of the server.
        gate: that every request which computes goes through.
    """

    models: Mapping[str, ServedModel]
    settings: ServeSettings
    metrics: Metrics
    gate: Gate

    def model(self, name: str, model_version: str = "") -> ServedModel:
        """The model of this name.

        Raises:
            Refused: 404, there is none.
        """
        if name not in self.models:
            raise Refused(404, f"there is no model {short(name)}; ask /v2/models", "unknown_model")
        if model_version not in ("", MODEL_VERSION):
            raise Refused(404, f"model '{name}' has version {MODEL_VERSION} only", "unknown_model")
        return self.models[name]

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self.gate.ready and not self.gate.draining

    @contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """Hold a place for a request with a body of ``size`` bytes at most.

        Raises:
            Refused: see :meth:`deploy.serve.gate.Gate.admitted`.
        """
        with self.gate.admitted(size):
            self.metrics.accepted()
            yield

    async def infer(self, model: ServedModel, inputs: NDArray[Any], arrived: float) -> Computed:
        """Compute rows within the time that a request has.

        Args:
            model: of this service.
            inputs: as :meth:`ServedModel.infer` takes them.
            arrived: when the request did, on :func:`time.perf_counter`'s clock.

        Raises:
            Refused: 503, see there.
        """
        return await model.infer(inputs, arrived + self.settings.timeout_s)

    def metadata(self) -> dict[str, Any]:
        """Of the server (``GET /v2``)."""
        return {"name": "octavo", "version": product_version(), "extensions": list(EXTENSIONS)}

    def model_metadata(self, model: ServedModel) -> dict[str, Any]:
        """Of a model (``GET /v2/models/NAME``)."""
        return {
            "name": model.name,
            "versions": [MODEL_VERSION],
            "platform": "tensorrt_plan" if model.bundle.has_engine else "onnxruntime_onnx",
            "inputs": [model.input.told()],
            "outputs": [model.output.told()],
        }

    def catalogue(self) -> list[dict[str, Any]]:
        """The models, as the page shows them (``GET /v2/models``)."""
        return [
            {
                "name": model.name,
                "model": model.bundle.manifest.model,
                "variant": model.bundle.manifest.variant,
                "target": model.bundle.manifest.target,
                "images": model.image_input is not None,
                "digest": model.bundle.digest,
            }
            for model in self.models.values()
        ]


def product_version() -> str:
    """Octavo's, as installed."""
    try:
        return version("octavo")
    except PackageNotFoundError:
        return "unknown"
