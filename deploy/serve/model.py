"""A bundle that is being served: its sessions, its warm-up, its queue."""

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.bundle.manifest import Tensor
from deploy.bundle.preprocess import ImageInput
from deploy.serve.batcher import Batcher, Computed
from deploy.serve.compute import open_runs
from deploy.serve.metrics import Metrics
from deploy.serve.refusal import Refused
from deploy.serve.settings import ServeSettings
from quant.errors import BadInput, InternalError, OctavoError, Unsupported

__all__ = ["ServedModel", "TensorSpec", "open_model"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_WARM_UP_RUNS = 3
_DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip


@dataclass(frozen=True)
class TensorSpec:
    """An input or output as the protocol describes it.

    Attributes:
        name: of it.
        datatype: the protocol's name of its type, such as ``FP32``.
        dtype: NumPy's.
        shape: −1 where a size is open; the first is the batch.
    """

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def told(self) -> dict[str, Any]:
        """As metadata of a model has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


class ServedModel:
    """One bundle behind its queue; made by :func:`open_model`.

    Attributes:
        name: what requests call it.
        bundle: it.
        input: its only input.
        output: its only output.
        image_input: how an image becomes its input; None where it takes arrays.
    """

    def __init__(self, name: str, bundle: Bundle, settings: ServeSettings, metrics: Metrics) -> None:
        manifest = bundle.manifest
        self.name, self.bundle = name, bundle
        self.input, self.output = _spec(manifest.model_input), _spec(manifest.model_output)
        preparing = manifest.preprocessing
        self.image_input = preparing if isinstance(preparing, ImageInput) else None
        self._settings, self._metrics = settings, metrics
        self._batch = self._largest_batch()
        self._stack = ExitStack()
        self._executor = ThreadPoolExecutor(settings.workers, f"infer-{name}")
        self._runs = open_runs(bundle, settings.workers, settings.threads, self._stack)
        self._batcher: Batcher | None = None

    def _largest_batch(self) -> int:
        least, most = self.bundle.batches
        if least > 1:
            raise Unsupported(
                f"{self.bundle.path}: its model takes no fewer than {least} samples at a time; a server "
                "needs one that takes 1"
            )
        return min(self._settings.max_batch, most or self._settings.max_batch)

    def warm_up(self) -> None:
        """Run every session with the smallest and the largest batch, so that all memory is there.

        Raises:
            InternalError: it answers something else than it says.
        """
        for run in self._runs:
            for rows in sorted({1, self._batch}):
                zeros = np.zeros((rows, *self.input.shape[1:]), self.input.dtype)
                for _ in range(_WARM_UP_RUNS):
                    outputs = run(zeros)
                if outputs.shape[0] != rows or outputs.dtype != self.output.dtype:
                    raise InternalError(f"{self.name}: gives {outputs.dtype} {list(outputs.shape)}")

    def start(self) -> None:
        """Begin to take requests; from the event loop."""
        self._batcher = Batcher(
            self._runs,
            self._executor,
            self._batch,
            self._settings.batch_delay_ms / 1e3,
            lambda rows, seconds: self._metrics.batch(self.name, rows, seconds),
        )

    @property
    def waiting(self) -> int:
        """Requests that no worker has taken yet."""
        return self._batcher.waiting if self._batcher else 0

    async def infer(self, inputs: NDArray[Any], until: float) -> Computed:
        """Compute rows [N, ...] of the model's type and shape.

        Args:
            inputs: they.
            until: when it must be done, on :func:`time.perf_counter`'s clock.

        Raises:
            Refused: 503 where it was not done in time, or the runtime failed.
        """
        if self._batcher is None:
            raise Refused(503, "the server is not ready yet; ask /v2/health/ready", "not_ready")
        try:
            async with asyncio.timeout(max(until - time.perf_counter(), 0)):
                computed = await self._batcher.submit(inputs)
        except TimeoutError:
            raise Refused(
                503, "not done in time; try again later, or with a smaller batch", "timeout"
            ) from None
        except OctavoError as error:
            raise Refused(503, "the runtime could not compute it", "runtime") from error
        self._metrics.waited(self.name, computed.queue_s)
        return computed

    async def close(self) -> None:
        """Stop the workers and close the sessions."""
        if self._batcher is not None:
            await self._batcher.close()
        self._executor.shutdown()
        self._stack.close()


def open_model(name: str | None, bundle: Bundle, settings: ServeSettings, metrics: Metrics) -> ServedModel:
    """Build its sessions.

    Args:
        name: what requests shall call it; by default model and variant, such as ``vit-int8``.
        bundle: it.
        settings: workers, threads and batches.
        metrics: told of what it does.

    Raises:
        BadInput: the name cannot stand in an address.
        Unsupported: its runtime is not there, or it takes no single samples.
    """
    chosen = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{bundle.manifest.model}-{bundle.manifest.variant}")
    if not _NAME.fullmatch(chosen):
        raise BadInput(
            f"'{chosen}' cannot be a model's name: letters, digits, '_', '.' and '-', a letter or digit "
            "first, at most 128; give one as NAME=BUNDLE"
        )
    return ServedModel(chosen, bundle, settings, metrics)


def _spec(tensor: Tensor) -> TensorSpec:
    shape = tuple(-1 if size is None else int(size) for size in tensor.shape)
    if tensor.dtype not in _DATATYPES:
        raise Unsupported(f"'{tensor.name}' is of type {tensor.dtype}, for which the protocol has no name")
    return TensorSpec(tensor.name, _DATATYPES[tensor.dtype], np.dtype(tensor.dtype), shape)
