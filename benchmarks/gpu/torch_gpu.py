"""A stream and memory of a GPU by PyTorch, for machines that have no pycuda."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from deploy.runner import Array
from deploy.tensorrt.device import Device
from deploy.tensorrt.gpu import Machine
from quant.errors import Unsupported

__all__ = ["TorchGpu", "torch_machine"]


class TorchGpu:
    """A `deploy.tensorrt.gpu.Gpu`."""

    def __init__(self) -> None:
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._device: dict[int, torch.Tensor] = {}
        self._host: dict[int, torch.Tensor] = {}

    @property
    def stream(self) -> int:
        """Its handle."""
        return int(self._stream.cuda_stream)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Work on the stream; errors of CUDA come out as ours."""
        try:
            with torch.cuda.stream(self._stream):
                yield
        except torch.cuda.OutOfMemoryError as error:
            raise Unsupported(f"the GPU has not enough memory: {error}") from error
        except RuntimeError as error:
            raise Unsupported(f"the GPU reported an error: {error}") from error

    def allocate(self, nbytes: int) -> int:
        """Memory of the device."""
        block = torch.empty(max(nbytes, 1), dtype=torch.uint8, device="cuda")
        self._device[block.data_ptr()] = block
        return block.data_ptr()

    def pinned(self, nbytes: int) -> Array:
        """Page-locked memory of the host."""
        block = torch.empty(max(nbytes, 1), dtype=torch.uint8, pin_memory=True)
        self._host[block.data_ptr()] = block
        return np.asarray(block.numpy())

    def upload(self, address: int, array: Array) -> None:
        """Copy to the device."""
        self._device[address][: array.nbytes].copy_(self._block(array), non_blocking=True)

    def download(self, array: Array, address: int) -> None:
        """Copy from the device."""
        self._block(array).copy_(self._device[address][: array.nbytes], non_blocking=True)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def close(self) -> None:
        """Release memory."""
        self._device.clear()
        self._host.clear()

    def _block(self, array: Array) -> torch.Tensor:
        """The tensor whose memory an array of :meth:`pinned` is: a copy of it would not be page-locked."""
        return self._host[array.ctypes.data][: array.nbytes]


def torch_machine() -> Machine:
    """The first GPU by PyTorch.

    Raises:
        Unsupported: PyTorch finds none.
    """
    if not torch.cuda.is_available():
        raise Unsupported("PyTorch finds no GPU here")
    about = torch.cuda.get_device_properties(0)
    device = Device(about.name, f"SM{about.major}{about.minor}", about.total_memory >> 20)
    return Machine(device, TorchGpu)
