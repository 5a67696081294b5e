"""TensorRT of a device in the tests: an engine is its ONNX file, which ONNX's own reference runs in NumPy.

FAKE_REFUSES and FAKE_DIES name a model whose build fails or ends the process, FAKE_OLD makes it TensorRT 8.
"""

import json
import os
import signal
from collections.abc import Callable
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pycuda.driver as cuda
from onnx.reference import ReferenceEvaluator

__version__ = "11.4.0"
_TYPES = {onnx.TensorProto.FLOAT: "FLOAT"}


class ILogger:
    Severity = Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING"])

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


class NetworkDefinitionCreationFlag(IntEnum):
    if not os.environ.get("FAKE_OLD"):
        STRONGLY_TYPED = 1
    EXPLICIT_BATCH = 0


class BuilderFlag(Enum):
    FP16 = 0


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class INetworkDefinition:
    def __init__(self) -> None:
        self.model, self.path = onnx.ModelProto(), ""

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    def get_input(self, index: int) -> Any:
        value = self.model.graph.input[index]
        return SimpleNamespace(name=value.name, shape=shape_of(value))


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self.network, self.errors, self.logger = network, [], logger

    def parse_from_file(self, path: str) -> bool:
        try:
            self.network.model = onnx.load(path)
        except Exception:
            self.errors.append(
                SimpleNamespace(node_name=str, node_operator=str, desc=lambda: "Failed to parse it")
            )
        self.network.path = path
        return not self.errors

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        return self.errors[index]


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        assert least <= usual <= most
        self.shapes[name] = [least, usual, most]


class IBuilderConfig:
    def __init__(self) -> None:
        self.profiles: list[IOptimizationProfile] = []

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        assert flags == 1 << 1, "strongly typed"
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        if f"/{os.environ.get('FAKE_DIES')}/" in network.path:
            os.kill(os.getpid(), signal.SIGSEGV)
        if f"/{os.environ.get('FAKE_REFUSES')}/" in network.path or not config.profiles:
            self.logger.log(ILogger.Severity.WARNING, "slow")
            self.logger.log(ILogger.Severity.ERROR, "Could not find any\nimplementation for node /fc1/MatMul")
            return None
        return plan_of(network.model, config.profiles[0].shapes)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger, self.engine_host_code_allowed = logger, False

    def deserialize_cuda_engine(self, content: bytes) -> "ICudaEngine | None":
        cuda.check_current()
        head, _, model = content.partition(b"\0")
        return ICudaEngine(json.loads(head), onnx.load_from_string(model))


class ICudaEngine:
    def __init__(self, shapes: dict[str, list[list[int]]], model: onnx.ModelProto) -> None:
        self._shapes, self._run = shapes, ReferenceEvaluator(model).run
        self._values = {value.name: value for value in (*model.graph.input, *model.graph.output)}
        self._inputs = [value.name for value in model.graph.input]
        self._weights = cuda.mem_alloc(model.ByteSize())

    @property
    def num_io_tensors(self) -> int:
        return len(self._values)

    def get_tensor_name(self, index: int) -> str:
        return list(self._values)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_TYPES[self._values[name].type.tensor_type.elem_type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return shape_of(self._values[name])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        return [tuple(shape) for shape in self._shapes[name]]

    def create_execution_context(self) -> "IExecutionContext":
        cuda.check_current()
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine, self._shape, self._addresses = engine, (0,), {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        self._shape = shape
        return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self._engine.get_tensor_shape(name)
        return (self._shape[0], *shape[1:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        cuda.streams[stream].append(self._work())
        return True

    def _work(self) -> Callable[[], None]:
        shape = self._shape

        def work() -> None:
            (given,), (output,) = self._engine._inputs, set(self._addresses) - set(self._engine._inputs)
            count = int(np.prod(shape))
            x = cuda.memory[self._addresses[given]].view(np.float32)[:count].reshape(shape)
            (y,) = self._engine._run(None, {given: x.copy()})
            cuda.memory[self._addresses[output]].view(np.float32)[: y.size] = y.ravel()

        return work


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Open sizes are -1."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)


def plan_of(model: onnx.ModelProto, shapes: Any) -> bytes:
    return json.dumps(shapes).encode() + b"\0" + model.SerializeToString()
