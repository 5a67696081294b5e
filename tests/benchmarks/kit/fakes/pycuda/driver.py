"""A GPU in NumPy: what is put into a stream happens when that is waited for.

What a real one would not forgive is an error here, or a line in the file that FAKE_LOG names.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

TOTAL = 80000 << 20
memory: dict[int, Any] = {}
pinned: list[tuple[int, int]] = []
streams: dict[int, list[Callable[[], None]]] = {}
current: list["Context"] = []


class Error(Exception):
    pass


def init() -> None:
    if os.environ.get("FAKE_NO_GPU"):
        raise Error("cuInit failed: no CUDA-capable device is detected")


def get_driver_version() -> int:
    return 13020


def check_current() -> None:
    if not current:
        raise Error("invalid device context")


class Context:
    def push(self) -> None:
        current.append(self)

    @staticmethod
    def pop() -> None:
        check_current()
        current.pop()
        with open(os.environ["FAKE_LOG"], "a", encoding="ascii") as log:
            log.write(f"{len(memory)} left\n")


class Device:
    def __init__(self, index: int) -> None:
        assert index == 0

    def name(self) -> str:
        return "NVIDIA H100"

    def compute_capability(self) -> tuple[int, int]:
        return 9, 0

    def total_memory(self) -> int:
        return TOTAL

    def pci_bus_id(self) -> str:
        return "0000:01:00.0"

    def retain_primary_context(self) -> Context:
        return Context()


class DeviceAllocation:
    def __init__(self, nbytes: int) -> None:
        check_current()
        self.address = max(memory, default=0) + (1 << 20)
        memory[self.address] = np.zeros(nbytes, np.uint8)

    def __int__(self) -> int:
        return self.address

    def __del__(self) -> None:
        del memory[self.address]


mem_alloc = DeviceAllocation


def mem_get_info() -> tuple[int, int]:
    check_current()
    return TOTAL - sum(block.nbytes for block in memory.values()), TOTAL


def pagelocked_empty(shape: tuple[int, ...], dtype: Any) -> Any:
    check_current()
    array = np.empty(shape, dtype)
    pinned.append((array.ctypes.data, array.ctypes.data + array.nbytes))
    return array


class Stream:
    def __init__(self) -> None:
        check_current()
        self.handle = len(streams) + 1
        streams[self.handle] = []

    def synchronize(self) -> None:
        while streams[self.handle]:
            streams[self.handle].pop(0)()


def _bytes(array: Any) -> Any:
    start, end = array.ctypes.data, array.ctypes.data + array.nbytes
    if not any(low <= start and end <= high for low, high in pinned):
        raise Error("not page-locked: the copy would not be in the stream's order")
    return array.reshape(-1).view(np.uint8)


def memcpy_htod_async(to: DeviceAllocation, array: Any, stream: Stream) -> None:
    given, block = _bytes(array), memory[int(to)]
    streams[stream.handle].append(lambda: block.__setitem__(slice(len(given)), given))


def memcpy_dtoh_async(array: Any, of: DeviceAllocation, stream: Stream) -> None:
    taken, block = _bytes(array), memory[int(of)]
    streams[stream.handle].append(lambda: taken.__setitem__(slice(None), block[: len(taken)]))
