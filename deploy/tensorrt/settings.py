"""What an engine is built with. Running one needs this, and not ONNX."""

from dataclasses import dataclass, fields
from typing import Any

from quant.errors import BadInput

__all__ = ["EngineSettings", "engine_settings"]

_LEVELS = range(6)


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is built with.

    Attributes:
        batches: fewest, usual and most images per call, for files with an open batch size.
        optimization_level: 0 to 5, how long the builder searches; its own default where left out.
        workspace_mib: scratch memory that kernels may use; all of the GPU's where left out.
        compute: TensorRT-RTX: the compute capabilities to build for, such as ``SM89``; all of them where
            left out.
        version_compatible: the engine also runs with later versions of TensorRT.
        hardware_compatible: the engine also runs on other GPUs from Ampere on.
        refit: weights can be exchanged later; TensorRT-RTX needs a driver to build such an engine.
        weight_streaming: weights may stay in the host's memory.
    """

    batches: tuple[int, int, int] = (1, 1, 8)
    optimization_level: int | None = None
    workspace_mib: int | None = None
    compute: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: bool = False
    refit: bool = False
    weight_streaming: bool = False

    def __post_init__(self) -> None:
        if len(self.batches) != 3 or not 1 <= self.batches[0] <= self.batches[1] <= self.batches[2]:
            raise BadInput(f"batches are fewest ≤ usual ≤ most, at least 1, got {list(self.batches)}")
        if self.optimization_level is not None and self.optimization_level not in _LEVELS:
            raise BadInput(f"optimization_level is 0 to {_LEVELS[-1]}, got {self.optimization_level}")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise BadInput(f"workspace_mib is at least 1, got {self.workspace_mib}")


def engine_settings(values: dict[str, Any]) -> EngineSettings:
    """Settings from JSON or YAML values.

    Raises:
        BadInput: a key is unknown or a value is out of range.
    """
    known = [field.name for field in fields(EngineSettings)]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise BadInput(f"unknown engine settings {', '.join(unknown)}; known: {', '.join(known)}")
    lists: dict[str, Any] = {key: tuple(values[key]) for key in ("batches", "compute") if key in values}
    return EngineSettings(**{**values, **lists})
