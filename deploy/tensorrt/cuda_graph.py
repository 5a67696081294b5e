"""Record what is put into a stream once, and put it there again as a whole (CUDA graphs).

A graph spares the launch of every single kernel, which is most of the time of a small network. pycuda has no
graphs, so these are five calls of the driver itself (CUDA Driver API, "Stream Management" and "Graph
Management").
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from quant.errors import Unsupported

__all__ = ["CudaGraph"]

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating
_LIBRARY = "libcuda.so.1"


class CudaGraph:
    """A recorded piece of work; it stays valid while the memory and shapes that it was recorded with do."""

    def __init__(self, driver: Any, instance: ctypes.c_void_p, stream: int) -> None:
        self._driver, self._instance, self._stream = driver, instance, stream

    @classmethod
    def record(cls, stream: int, work: Callable[[], None], driver: Any = None) -> Self:
        """Record what ``work`` puts into a stream, without running it.

        Args:
            stream: its handle, a ``CUstream``.
            work: only puts work into the stream; it has been done once before, so that nothing is made late.
            driver: the driver's library; found where left out.

        Raises:
            Unsupported: the driver cannot, or something in ``work`` cannot be recorded.
        """
        driver = _driver() if driver is None else driver
        handle = ctypes.c_void_p(stream)
        _check(driver.cuStreamBeginCapture_v2(handle, _THREAD_LOCAL), "begin a recording")
        graph, instance = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            work()
        except BaseException:
            driver.cuStreamEndCapture(handle, ctypes.byref(graph))
            if graph:
                driver.cuGraphDestroy(graph)
            raise
        _check(driver.cuStreamEndCapture(handle, ctypes.byref(graph)), "end a recording")
        try:
            status = driver.cuGraphInstantiateWithFlags(ctypes.byref(instance), graph, ctypes.c_ulonglong(0))
        finally:
            driver.cuGraphDestroy(graph)
        _check(status, "make a graph")
        return cls(driver, instance, stream)

    def launch(self) -> None:
        """Put the recorded work into the stream.

        Raises:
            Unsupported: the device reported an error.
        """
        _check(self._driver.cuGraphLaunch(self._instance, ctypes.c_void_p(self._stream)), "launch a graph")

    def close(self) -> None:
        """Release it."""
        if self._instance:
            self._driver.cuGraphExecDestroy(self._instance)
            self._instance = ctypes.c_void_p()

    def __del__(self) -> None:
        with suppress(Exception):  # the driver may be gone already
            self.close()


def _driver() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise Unsupported(f"CUDA graphs need the driver's {_LIBRARY}: {error}") from error


def _check(status: int, what: str) -> None:
    if status != 0:
        raise Unsupported(f"the driver cannot {what}: CUDA error {status}")
