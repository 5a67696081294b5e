"""TensorRT 8 as far as its Python bindings matter here: the names that 8.5 and 8.6 have, and no others.

What is built records the flags that were set. The parser takes everything but what ``refuses`` names.
"""

import enum
from types import ModuleType
from typing import Any

import onnx

from deploy.tensorrt.library import Library


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    EXPLICIT_PRECISION = 1


class BuilderFlag85(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    DEBUG = 2
    GPU_FALLBACK = 3
    REFIT = 5
    TF32 = 7
    SPARSE_WEIGHTS = 8
    OBEY_PRECISION_CONSTRAINTS = 10


class BuilderFlag86(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    DEBUG = 2
    GPU_FALLBACK = 3
    REFIT = 5
    TF32 = 7
    SPARSE_WEIGHTS = 8
    OBEY_PRECISION_CONSTRAINTS = 10
    FP8 = 14
    VERSION_COMPATIBLE = 16


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class ProfilingVerbosity(enum.IntEnum):
    DETAILED = 2


class HardwareCompatibilityLevel(enum.IntEnum):
    NONE = 0
    AMPERE_PLUS = 1


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1


class Only:
    """An object of the bindings: only the names of its class can be set."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self), name):
            raise AttributeError(name)
        object.__setattr__(self, name, value)


class TimingCache:
    def serialize(self) -> bytes:
        return b"timings"


class IBuilderConfig85(Only):
    profiling_verbosity: Any = None
    flags: Any = ()
    pools: Any = ()

    def set_flag(self, flag: enum.IntEnum) -> None:
        self.flags = (*self.flags, flag.name)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.pools = (*self.pools, (pool.name, size))

    def create_timing_cache(self, _: bytes) -> TimingCache:
        return TimingCache()

    def set_timing_cache(self, *_: object) -> bool:
        return True

    def get_timing_cache(self) -> TimingCache:
        return TimingCache()

    def add_optimization_profile(self, _: object) -> int:
        return 0


class IBuilderConfig86(IBuilderConfig85):
    builder_optimization_level: Any = 3
    hardware_compatibility_level: Any = HardwareCompatibilityLevel.NONE


class Profile:
    def set_shape(self, *_: object) -> None:
        pass


class Network:
    def __init__(self) -> None:
        self.inputs: list[Any] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Any:
        return self.inputs[index]


class ParserError:
    """TensorRT 8 tells the node's place in the file, not its name."""

    def __init__(self, place: int) -> None:
        self._place = place

    def node(self) -> int:
        return self._place

    def desc(self) -> str:
        return "No importer registered for op"


class Seen:
    """What the library was asked for.

    Attributes:
        network_flags: of the network.
        config: of the engine that was built.
        parsed: files that reached the parser.
    """

    def __init__(self) -> None:
        self.network_flags: int | None = None
        self.config: Any = None
        self.parsed: list[str] = []


def tensorrt8(version: str, refuses: str = "") -> tuple[Library, Seen]:
    """A library of that version, ``8.5...`` or ``8.6...``, and what it sees."""
    newer, seen = version >= "8.6", Seen()

    class Builder:
        def __init__(self, _: ILogger) -> None:
            pass

        def create_network(self, flags: int) -> Network:
            seen.network_flags = flags
            return Network()

        def create_builder_config(self) -> Any:
            return IBuilderConfig86() if newer else IBuilderConfig85()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, _: Network, config: Any) -> bytes:
            seen.config = config
            return b"plan"

    class OnnxParser:
        def __init__(self, *_: object) -> None:
            self._errors: list[ParserError] = []

        def parse_from_file(self, path: str) -> bool:
            seen.parsed.append(path)
            nodes = onnx.load(path).graph.node
            self._errors = [ParserError(i) for i, node in enumerate(nodes) if node.op_type == refuses]
            return not self._errors

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    module = ModuleType("tensorrt")
    names: dict[str, Any] = {
        "__version__": version,
        "Builder": Builder,
        "OnnxParser": OnnxParser,
        "ILogger": ILogger,
        "NetworkDefinitionCreationFlag": NetworkDefinitionCreationFlag,
        "BuilderFlag": BuilderFlag86 if newer else BuilderFlag85,
        "IBuilderConfig": IBuilderConfig86 if newer else IBuilderConfig85,
        "MemoryPoolType": MemoryPoolType,
        "ProfilingVerbosity": ProfilingVerbosity,
    }
    if newer:
        names |= {"HardwareCompatibilityLevel": HardwareCompatibilityLevel, "INormalizationLayer": object}
    vars(module).update(names)
    return Library("tensorrt", "TensorRT", version, module), seen
