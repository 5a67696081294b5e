"""pycuda's part: the context is the calling thread's own for as long as it is needed, whatever happens."""

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deploy.tensorrt.device import Device
from deploy.tensorrt.gpu import PycudaGpu, pycuda_machine
from quant.errors import Unsupported


class Driver(ModuleType):
    """``pycuda.driver`` with one GPU and 1,000 bytes."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.stack: list[object] = []
        self.waited = 0
        self.fails: Exception | None = None
        context = SimpleNamespace()
        context.push = lambda: self.stack.append(context)
        self.Context = SimpleNamespace(pop=lambda: self.stack.pop())
        self.handle = SimpleNamespace(
            retain_primary_context=lambda: context,
            name=lambda: "NVIDIA H100",
            compute_capability=lambda: (9, 0),
            total_memory=lambda: 1 << 30,
        )
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.pagelocked_empty = np.zeros

    def init(self) -> None:
        if self.fails:
            raise self.fails

    def Device(self, index: int) -> Any:
        if index:
            raise self.Error("invalid device ordinal")
        return self.handle

    def Stream(self) -> Any:
        assert self.stack
        return SimpleNamespace(handle=77, synchronize=self._wait)

    def _wait(self) -> None:
        self.waited += 1
        if self.fails:
            raise self.fails

    def mem_alloc(self, nbytes: int) -> int:
        assert self.stack
        if nbytes > 1000:
            raise self.MemoryError("out of memory")
        self.memory[len(self.memory) + 1] = np.zeros(nbytes, np.uint8)
        return len(self.memory)

    def memcpy_htod_async(self, address: int, array: np.ndarray[Any, Any], stream: Any) -> None:
        assert self.stack
        assert stream.handle == 77
        self.memory[address][: array.nbytes] = array

    def memcpy_dtoh_async(self, array: np.ndarray[Any, Any], address: int, stream: Any) -> None:
        assert self.stack
        assert stream.handle == 77
        array[:] = self.memory[address][: array.nbytes]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    package = ModuleType("pycuda")
    package.driver = made  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "pycuda", package)
    monkeypatch.setitem(__import__("sys").modules, "pycuda.driver", made)
    return made


def test_memory_goes_to_the_device_and_back(driver: Driver) -> None:
    machine = pycuda_machine()
    assert machine.device == Device("NVIDIA H100", "SM90", 1024)
    gpu = machine.new_stream()
    assert isinstance(gpu, PycudaGpu)
    assert gpu.stream == 77
    with gpu.current():
        address, host, back = gpu.allocate(8), gpu.pinned(8), gpu.pinned(8)
        host[:] = np.arange(8)
        gpu.upload(address, host)
        gpu.download(back, address)
        gpu.synchronize()
    assert back.tolist() == list(range(8))
    assert driver.waited == 1
    gpu.close()
    assert driver.stack == []


def test_errors_of_the_device_are_ours_and_leave_the_thread_as_it_was(driver: Driver) -> None:
    gpu = pycuda_machine().new_stream()
    with pytest.raises(Unsupported, match="not enough memory: out of memory"), gpu.current():
        gpu.allocate(2000)
    assert driver.stack == []
    driver.fails = driver.Error("an illegal memory access was encountered")
    with pytest.raises(Unsupported, match="reported an error: an illegal memory access"), gpu.current():
        gpu.synchronize()
    assert driver.stack == []


def test_a_gpu_that_is_not_there_is_told(driver: Driver) -> None:
    with pytest.raises(Unsupported, match="there is no GPU 3 here: invalid device ordinal"):
        pycuda_machine(3)
    driver.fails = driver.Error("no CUDA-capable device is detected")
    with pytest.raises(Unsupported, match="no CUDA-capable device"):
        pycuda_machine()
