"""Run an engine, refusing engines that were made for something else and feeds that do not fit.

Each call has a stream, an execution context and page-locked buffers of its own, of which there are as many as
calls may run side by side. Once a shape has been run, its copies and kernels are recorded as a CUDA graph and
put into the stream as one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploy.runner import Array
from deploy.tensorrt.gpu import Machine, pycuda_machine
from deploy.tensorrt.library import find_library
from deploy.tensorrt.listeners import logger_of
from deploy.tensorrt.manifest import check_fits, read_manifest
from deploy.tensorrt.slot import Slot, Tensor, describe_tensors
from quant.errors import BadInput, InternalError, Unsupported

__all__ = ["RunSettings", "TensorRtRunner"]


@dataclass(frozen=True)
class RunSettings:
    """How an engine is run.

    Attributes:
        contexts: calls from several threads that may run side by side; each takes memory of its own.
        cuda_graphs: record each shape once and launch it as a whole.
        device: index of the GPU.
    """

    contexts: int = 1
    cuda_graphs: bool = True
    device: int = 0

    def __post_init__(self) -> None:
        if self.contexts < 1:
            raise BadInput(f"contexts is at least 1, got {self.contexts}")


class TensorRtRunner:
    """A `deploy.runner.Runner` on TensorRT or TensorRT-RTX; the engine lives inside the ``with`` block.

    Several threads may call :meth:`infer`; where there are more of them than contexts, they wait.

    Args:
        plan: the engine's file; its manifest lies beside it.
        settings: see :class:`RunSettings`; None means the defaults.
        machine: the GPU; pycuda's where left out.
    """

    def __init__(
        self, plan: Path, settings: RunSettings | None = None, machine: Machine | None = None
    ) -> None:
        self._plan = plan
        self._settings = settings or RunSettings()
        self._machine = machine
        self._slots: list[Slot] = []
        self._free: SimpleQueue[Slot] = SimpleQueue()
        self._tensors: dict[str, Tensor] = {}
        self._engine: Any = None

    def __enter__(self) -> Self:
        manifest = read_manifest(self._plan)
        library = find_library(manifest.library)
        machine = self._machine or pycuda_machine(self._settings.device)
        check_fits(manifest, library, machine.device)  # before the library sees it: it may crash
        self._library = library
        trt, logger = library.module, logger_of(library.module)
        first = machine.new_stream()
        try:
            with first.current():
                self._engine = trt.Runtime(logger).deserialize_cuda_engine(self._plan.read_bytes())
            if self._engine is None:
                raise Unsupported(
                    f"{self._plan}: {library.name} {library.version} cannot load it: {logger.last()}"
                )
            self._tensors = describe_tensors(trt, self._engine)
            for index in range(self._settings.contexts):
                gpu = first if index == 0 else machine.new_stream()
                self._slots.append(Slot(gpu, self._engine, self._tensors, self._settings.cuda_graphs, logger))
                self._free.put(self._slots[-1])
        except BaseException:
            if not self._slots:
                first.close()
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def engine(self) -> Any:
        """The open ``ICudaEngine``.

        Raises:
            InternalError: the runner is used outside its ``with`` block.
        """
        if self._engine is None:
            raise InternalError("TensorRtRunner used outside its `with` block: no engine is open")
        return self._engine

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the engine's inputs, in order."""
        return tuple(tensor.name for tensor in self._tensors.values() if tensor.is_input)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of its outputs, in order."""
        return tuple(tensor.name for tensor in self._tensors.values() if not tensor.is_input)

    @property
    def graph_note(self) -> str:
        """Why CUDA graphs are not used; empty where they are, or no shape was run twice."""
        return next((slot.graph_note for slot in self._slots if slot.graph_note), "")

    def layer_information(self) -> dict[str, Any]:
        """What the engine is made of, as ``IEngineInspector`` tells it for the largest shapes."""
        engine = self.engine  # says so where it is closed
        slot = self._free.get()
        try:
            return slot.layer_information(engine, self._library.module)
        finally:
            self._free.put(slot)

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the engine once.

        Args:
            feeds: input name to array, one for each input, of the engine's type, within its profile's shapes.

        Returns:
            Output name to array; the arrays are the caller's own.

        Raises:
            BadInput: a name, a shape or a type does not fit the engine.
            Unsupported: the GPU ran out of memory or reported an error.
        """
        _ = self.engine  # says so where it is closed
        self._check(feeds)
        slot = self._free.get()
        try:
            return slot.run({name: np.ascontiguousarray(array) for name, array in feeds.items()})
        finally:
            self._free.put(slot)

    def _check(self, feeds: Mapping[str, Array]) -> None:
        if set(feeds) != set(self.input_names):
            raise BadInput(
                f"the engine's inputs are {', '.join(self.input_names)}; given: {', '.join(feeds) or 'none'}"
            )
        for name, array in feeds.items():
            tensor = self._tensors[name]
            if array.dtype != tensor.dtype:
                raise BadInput(f"input {name!r}: given {array.dtype}, the engine expects {tensor.dtype}")
            least, most = tensor.least, tensor.most
            inside = len(array.shape) == len(least) and all(
                low <= size <= high for low, size, high in zip(least, array.shape, most, strict=True)
            )
            if not inside:
                raise BadInput(
                    f"input {name!r}: given shape {list(array.shape)}, the engine takes {list(least)} to "
                    f"{list(most)}; build it with other batches"
                )

    def _close(self) -> None:
        for slot in self._slots:
            slot.close()
        self._slots, self._free, self._engine = [], SimpleQueue(), None
