"""One execution context of an engine, with its stream, its buffers and its recorded graph."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from deploy.runner import Array
from deploy.tensorrt.cuda_graph import CudaGraph
from deploy.tensorrt.gpu import Gpu
from quant.errors import Unsupported

__all__ = ["Slot", "Tensor", "describe_tensors"]

_NUMPY: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}
"""TensorRT's name of a type to NumPy's."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        name: of it.
        is_input: or an output.
        dtype: of its values.
        least: the smallest shape of an input; () of an output.
        most: the largest.
    """

    name: str
    is_input: bool
    dtype: np.dtype[np.generic]
    least: tuple[int, ...] = ()
    most: tuple[int, ...] = ()


def describe_tensors(trt: Any, engine: Any) -> dict[str, Tensor]:
    """The inputs and outputs of an engine by name, in its own order.

    Raises:
        Unsupported: one has a type that NumPy has not.
    """
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = str(engine.get_tensor_dtype(name).name)
        if kind not in _NUMPY:
            raise Unsupported(f"the tensor '{name}' of the engine is {kind}, which NumPy has not")
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        least = most = tuple(engine.get_tensor_shape(name)) if is_input else ()
        if -1 in least:
            least, _, most = (tuple(shape) for shape in engine.get_tensor_profile_shape(name, 0))
        found[name] = Tensor(name, is_input, _NUMPY[kind], least, most)
    return found


class Slot:
    """See the module's text. One thread at a time uses it.

    Args:
        gpu: its stream; the slot closes it.
        engine: an ``ICudaEngine``.
        tensors: its inputs and outputs.
        graphs: record shapes as CUDA graphs.
        logger: keeps what TensorRT says.
    """

    def __init__(
        self, gpu: Gpu, engine: Any, tensors: Mapping[str, Tensor], graphs: bool, logger: Any
    ) -> None:
        self._gpu, self._tensors, self._logger = gpu, tensors, logger
        self._graphs = graphs
        self._graph: CudaGraph | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._ran = False  # these shapes, so that nothing is made late in a recording
        self.graph_note = ""
        try:
            self._prepare(engine)
        except BaseException:
            gpu.close()
            raise

    def _prepare(self, engine: Any) -> None:
        gpu, tensors, logger = self._gpu, self._tensors, self._logger
        with gpu.current():
            self._context = engine.create_execution_context()
            if self._context is None:
                raise Unsupported(f"TensorRT cannot make an execution context: {logger.last()}")
            self._set_shapes({name: t.most for name, t in tensors.items() if t.is_input})
            self._device = {name: gpu.allocate(self._bytes(name)) for name in tensors}
            self._host = {name: gpu.pinned(self._bytes(name)) for name in tensors}
            for name, address in self._device.items():
                if not self._context.set_tensor_address(name, address):
                    raise Unsupported(f"TensorRT refused the memory of '{name}': {logger.last()}")

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Copy the inputs in, run, copy the outputs out.

        Raises:
            Unsupported: the GPU ran out of memory or reported an error.
        """
        with self._gpu.current():
            shapes = {name: array.shape for name, array in feeds.items()}
            if shapes != self._shapes:
                self._set_shapes(shapes)
            for name, array in feeds.items():
                self._view(name)[...] = array
            if self._ran and self._graphs and self._graph is None:
                self._record()
            if self._graph is not None:
                self._graph.launch()
            else:
                self._put()
            self._gpu.synchronize()
            self._ran = True
            return {name: self._view(name).copy() for name, t in self._tensors.items() if not t.is_input}

    def layer_information(self, engine: Any, trt: Any) -> dict[str, Any]:
        """What the inspector says of the engine, types included: those are known for given shapes only."""
        with self._gpu.current():
            self._set_shapes({name: t.most for name, t in self._tensors.items() if t.is_input})
            inspector = engine.create_engine_inspector()
            inspector.execution_context = self._context
            told = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        found: dict[str, Any] = json.loads(told)
        return found

    def close(self) -> None:
        """Release everything."""
        self._drop_graph()
        self._context = None
        self._host.clear()
        self._gpu.close()

    def _put(self) -> None:
        """Put copies and kernels into the stream."""
        for name, tensor in self._tensors.items():
            if tensor.is_input:
                self._gpu.upload(self._device[name], self._host[name][: self._bytes(name)])
        if not self._context.execute_async_v3(self._gpu.stream):
            raise Unsupported(f"TensorRT could not run the engine: {self._logger.last()}")
        for name, tensor in self._tensors.items():
            if not tensor.is_input:
                self._gpu.download(self._host[name][: self._bytes(name)], self._device[name])

    def _record(self) -> None:
        """Record the shapes that were just run; where that cannot be done, go on without."""
        ready = getattr(self._context, "is_stream_capturable", None)
        if ready is not None and not ready(self._gpu.stream):
            return  # TensorRT-RTX may still be compiling kernels for them
        try:
            self._graph = CudaGraph.record(self._gpu.stream, self._put)
        except Unsupported as error:
            self._graphs, self.graph_note = False, str(error)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._drop_graph()
        self._ran = False
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise Unsupported(f"TensorRT refused shape {list(shape)} of '{name}': {self._logger.last()}")
        self._shapes = dict(shapes)
        for name, tensor in self._tensors.items():
            if not tensor.is_input and -1 in self._shape(name):
                raise Unsupported(f"the shape of output '{name}' depends on the data, which is not supported")

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._shapes.get(name) or tuple(self._context.get_tensor_shape(name))

    def _bytes(self, name: str) -> int:
        return prod(self._shape(name)) * self._tensors[name].dtype.itemsize

    def _view(self, name: str) -> Array:
        """The page-locked memory as the tensor that it holds now."""
        used = self._host[name][: self._bytes(name)]
        view: Array = used.view(self._tensors[name].dtype).reshape(self._shape(name))
        return view
