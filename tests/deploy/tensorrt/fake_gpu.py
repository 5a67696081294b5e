"""A GPU and an engine in NumPy: what is put into a stream happens when it is waited for, or as recorded."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from deploy.runner import Array
from deploy.tensorrt.device import Device
from deploy.tensorrt.gpu import Machine
from quant.errors import Unsupported

H100 = Device("NVIDIA H100", "SM90", 80000)
FLOAT, INPUT, OUTPUT = SimpleNamespace(name="FLOAT"), "input", "output"


class FakeGpu:
    """A `deploy.tensorrt.gpu.Gpu`."""

    streams: dict[int, "FakeGpu"] = {}  # noqa: RUF012  # looked up by handle, as the driver does

    def __init__(self, memory_limit: int = 1 << 30) -> None:
        self.stream = len(self.streams) + 1
        self.streams[self.stream] = self
        self.memory: dict[int, Array] = {}
        self.waiting: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.limit, self.closed, self.depth = memory_limit, False, 0

    @contextmanager
    def current(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def allocate(self, nbytes: int) -> int:
        assert self.depth
        if sum(len(block) for block in self.memory.values()) + nbytes > self.limit:
            raise Unsupported("the GPU has not enough memory")
        address = 4096 * (len(self.memory) + 1) + (self.stream << 32)
        self.memory[address] = np.zeros(nbytes, np.uint8)
        return address

    def pinned(self, nbytes: int) -> Array:
        assert self.depth
        return np.zeros(nbytes, np.uint8)

    def put(self, work: Callable[[], None]) -> None:
        assert self.depth
        (self.waiting if self.recording is None else self.recording).append(work)

    def upload(self, address: int, array: Array) -> None:
        self.put(lambda: self.memory[address].__setitem__(slice(len(array)), array))

    def download(self, array: Array, address: int) -> None:
        self.put(lambda: array.__setitem__(slice(None), self.memory[address][: len(array)]))

    def synchronize(self) -> None:
        assert self.depth
        assert self.recording is None, "a stream that is recorded cannot be waited for"
        while self.waiting:
            self.waiting.pop(0)()

    def close(self) -> None:
        self.closed = True


class FakeDriver:
    """The calls of libcuda that graphs need."""

    def __init__(self) -> None:
        self.launches, self.graphs = 0, []

    def cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> int:
        assert mode == 1
        FakeGpu.streams[stream.value].recording = []
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        gpu = FakeGpu.streams[stream.value]
        self.graphs.append(gpu.recording)
        gpu.recording = None
        graph._obj.value = len(self.graphs)
        return 0

    def cuGraphInstantiateWithFlags(self, instance: Any, graph: Any, flags: Any) -> int:
        assert flags.value == 0
        instance._obj.value = graph.value
        return 0

    def cuGraphDestroy(self, _: Any) -> int:
        return 0

    def cuGraphExecDestroy(self, _: Any) -> int:
        return 0

    def cuGraphLaunch(self, instance: Any, stream: Any) -> int:
        self.launches += 1
        FakeGpu.streams[stream.value].waiting.extend(self.graphs[instance.value - 1])
        return 0


class FakeContext:
    """Computes y [N, 2] = the sums and the largest of the rows of x [N, 4]."""

    def __init__(self, engine: "FakeEngine") -> None:
        self.engine, self.shape, self.addresses = engine, (0, 4), {}
        self.runs = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "x"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == "x" else (self.shape[0], 2)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self.engine.broken:
            return False
        gpu, rows = FakeGpu.streams[stream], self.shape[0]

        def work() -> None:
            self.runs += 1
            x = gpu.memory[self.addresses["x"]].view(np.float32).reshape(-1, 4)[:rows]
            y = np.stack([x.sum(1), x.max(1)], axis=1)
            gpu.memory[self.addresses["y"]].view(np.float32)[: y.size] = y.ravel()

        gpu.put(work)
        return True


class FakeEngine:
    num_io_tensors = 2

    def __init__(self) -> None:
        self.broken = False
        self.contexts: list[FakeContext] = []

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_mode(self, name: str) -> str:
        return INPUT if name == "x" else OUTPUT

    def get_tensor_dtype(self, _: str) -> Any:
        return FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 4) if name == "x" else (-1, 2)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("x", 0)
        return [(1, 4), (2, 4), (8, 4)]

    def create_engine_inspector(self) -> Any:
        def told(_: Any) -> str:
            shape = inspector.execution_context.shape
            return json.dumps({"Layers": [{"Name": "row_sums", "Inputs": [{"Dimensions": shape}]}]})

        inspector = SimpleNamespace(execution_context=None, get_engine_information=told)
        return inspector

    def create_execution_context(self) -> FakeContext:
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]


class FakeTensorRt:
    """The module; ``loads`` says whether an engine can be deserialized."""

    LayerInformationFormat = SimpleNamespace(JSON="json")
    TensorIOMode = SimpleNamespace(INPUT=INPUT, OUTPUT=OUTPUT)

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    def __init__(self, loads: bool = True) -> None:
        self.engine, self.loads, self.deserialized = FakeEngine(), loads, 0

    def Runtime(self, _: Any) -> Any:
        def deserialize(_: bytes) -> FakeEngine | None:
            self.deserialized += 1
            return self.engine if self.loads else None

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


def fake_machine(device: Device = H100, memory_limit: int = 1 << 30) -> tuple[Machine, list[FakeGpu]]:
    """A GPU, and the streams that were made on it."""
    made: list[FakeGpu] = []

    def new_stream() -> FakeGpu:
        made.append(FakeGpu(memory_limit))
        return made[-1]

    return Machine(device, new_stream), made
