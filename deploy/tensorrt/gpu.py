"""What a runner needs of a GPU: memory, a stream, copies. pycuda offers it; others may by :class:`Gpu`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deploy.runner import Array
from deploy.tensorrt.device import Device, describe
from quant.errors import Unsupported

__all__ = ["Gpu", "Machine", "PycudaGpu", "pycuda_machine"]


class Gpu(Protocol):
    """A stream of a GPU, and the memory that is used on it. Every call is made inside :meth:`current`."""

    @property
    def stream(self) -> int:
        """Its handle, a ``CUstream``."""
        ...

    def current(self) -> Any:
        """A context manager in which the calling thread works on this GPU."""
        ...

    def allocate(self, nbytes: int) -> int:
        """Memory of the device; its address. It is released by :meth:`close`."""
        ...

    def pinned(self, nbytes: int) -> Array:
        """Page-locked memory of the host, uint8 [nbytes]."""
        ...

    def upload(self, address: int, array: Array) -> None:
        """Copy page-locked memory to the device, in the order of the stream."""
        ...

    def download(self, array: Array, address: int) -> None:
        """Copy from the device to page-locked memory, in the order of the stream."""
        ...

    def synchronize(self) -> None:
        """Wait for all that was put into the stream; errors of the device come up here."""
        ...

    def close(self) -> None:
        """Release memory and stream."""
        ...


@dataclass(frozen=True)
class Machine:
    """A GPU that engines run on.

    Attributes:
        device: what it is.
        new_stream: makes a stream of its own.
    """

    device: Device
    new_stream: Callable[[], Gpu]


class PycudaGpu:
    """A :class:`Gpu` by pycuda, on the device's primary context, which PyTorch would share.

    Args:
        cuda: the module ``pycuda.driver``.
        context: the device's primary context, retained.
    """

    def __init__(self, cuda: Any, context: Any) -> None:
        self._cuda, self._context = cuda, context
        self._kept: list[Any] = []
        with self.current():
            self._stream: Any = cuda.Stream()

    @property
    def stream(self) -> int:
        """Its handle."""
        return int(self._stream.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context the thread's own; errors of the driver come out as ours.

        Raises:
            Unsupported: memory ran out, or the device reported an error.
        """
        self._context.push()
        try:
            yield
        except self._cuda.MemoryError as error:
            raise Unsupported(f"the GPU has not enough memory: {error}") from error
        except self._cuda.Error as error:
            raise Unsupported(f"the GPU reported an error: {error}") from error
        finally:
            self._cuda.Context.pop()

    def allocate(self, nbytes: int) -> int:
        """Memory of the device."""
        self._kept.append(self._cuda.mem_alloc(max(nbytes, 1)))
        return int(self._kept[-1])

    def pinned(self, nbytes: int) -> Array:
        """Page-locked memory of the host."""
        array: Array = self._cuda.pagelocked_empty((max(nbytes, 1),), np.uint8)
        return array

    def upload(self, address: int, array: Array) -> None:
        """Copy to the device."""
        self._cuda.memcpy_htod_async(address, array, self._stream)

    def download(self, array: Array, address: int) -> None:
        """Copy from the device."""
        self._cuda.memcpy_dtoh_async(array, address, self._stream)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def close(self) -> None:
        """Release memory and stream."""
        with self.current():
            self._kept.clear()
            self._stream = None


def pycuda_machine(index: int = 0) -> Machine:
    """A GPU of this machine by pycuda.

    Args:
        index: of the device.

    Raises:
        Unsupported: pycuda is not installed, or there is no such GPU.
    """
    try:
        import pycuda.driver as cuda
    except (ImportError, OSError) as error:
        raise Unsupported(
            f"pycuda is not installed or finds no driver ({error}): pip install 'octavo[tensorrt]'"
        ) from error
    try:
        cuda.init()
        handle = cuda.Device(index)
        context = handle.retain_primary_context()
    except cuda.Error as error:
        raise Unsupported(f"there is no GPU {index} here: {error}") from error
    return Machine(describe(handle), lambda: PycudaGpu(cuda, context))
