"""A bundle in KServe's own server, for clusters that are built around it.

::

    python -m deploy.serve.kserve_host BUNDLE --model_name int8 [options of KServe's server]

The queue, the batches and the sessions are `ServedModel`'s, as under `octavo serve`;
HTTP and gRPC are KServe's, and so are its limits, of which it has few. `kserve` must be installed, in an
environment of its own: it needs a protobuf that does not go with the rest of Octavo.
"""

import time
from pathlib import Path
from typing import Any

import kserve
from kserve.errors import InvalidInput

from deploy.bundle import HERE, load_bundle
from deploy.serve.metrics import Metrics
from deploy.serve.model import ServedModel, open_model
from deploy.serve.refusal import Refused
from deploy.serve.settings import ServeSettings
from deploy.serve.tensors import checked_shape

__all__ = ["BundleModel", "main"]


class BundleModel(kserve.Model):  # type: ignore[misc]
    """KServe's kind of model.

    Args:
        name: that requests call it by.
        path: of the bundle.
        settings: workers, threads, batches and the time that an answer may take; the rest is KServe's.
    """

    def __init__(self, name: str, path: Path, settings: ServeSettings) -> None:
        super().__init__(name)
        self.engine = True  # KServe calls start_engine for those that say so
        self._settings = settings
        self._served: ServedModel = open_model(name, load_bundle(path, HERE), settings, Metrics())

    def load(self) -> bool:
        """Run it once, before it is ready."""
        self._served.warm_up()
        self.ready = True
        return True

    async def start_engine(self) -> None:
        """Begin to take requests, from KServe's event loop."""
        self._served.start()

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Compute one request.

        Raises:
            InvalidInput: it does not fit the model, or was not done in time.
        """
        del headers, response_headers
        spec = self._served.input
        try:
            (given,) = payload.inputs
            shape = checked_shape(given.name, given.datatype, list(given.shape), spec)
            rows = given.as_numpy().astype(spec.dtype, copy=False).reshape(shape)
            computed = await self._served.infer(rows, time.perf_counter() + self._settings.timeout_s)
        except (Refused, ValueError) as error:
            raise InvalidInput(str(error)) from error
        output = self._served.output
        told = kserve.InferOutput(output.name, list(computed.outputs.shape), output.datatype)
        told.set_data_from_numpy(computed.outputs)
        return kserve.InferResponse(
            payload.id,
            self.name,
            [told],
            use_binary_outputs=payload.from_grpc or payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

    def get_input_types(self) -> list[dict[str, Any]]:
        """What KServe's metadata says of the input."""
        return [self._served.input.told()]

    def get_output_types(self) -> list[dict[str, Any]]:
        """What KServe's metadata says of the output."""
        return [self._served.output.told()]


def main() -> None:
    """Serve until a signal."""
    from kserve.model_server import parser

    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="from `octavo package`")
    given = parser.parse_args()
    model = BundleModel(given.model_name, given.bundle, ServeSettings())
    model.load()
    kserve.ModelServer(
        http_port=given.http_port, grpc_port=given.grpc_port, enable_grpc=given.enable_grpc
    ).start([model])


if __name__ == "__main__":
    main()
