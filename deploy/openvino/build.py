"""Compile a model with OpenVINO, with every setting that changes the numbers or the speed written out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from quant.errors import BadInput, Unsupported

__all__ = ["CompileSettings", "compile_model", "openvino_version"]


@dataclass(frozen=True)
class CompileSettings:
    """What a model is compiled with.

    Attributes:
        device: OpenVINO's name of the device.
        threads: threads inside one inference.
        streams: inferences side by side.
        precision: of everything that is not quantized. OpenVINO's own default is bfloat16 where the CPU has
            it, which would compare other arithmetic than ONNX Runtime's.
        hint: what OpenVINO tunes itself for.
        config: further properties, e.g. ``{"CPU_RUNTIME_CACHE_CAPACITY": "0"}``.
    """

    device: str = "CPU"
    threads: int = 1
    streams: int = 1
    precision: Literal["f32", "f16", "bf16"] = "f32"
    hint: Literal["LATENCY", "THROUGHPUT"] = "LATENCY"
    config: Mapping[str, str] = field(default_factory=dict)


def compile_model(model: Path, settings: CompileSettings | None = None) -> Any:
    """Compile a model that uses exactly the threads and the precision asked for.

    Args:
        model: OpenVINO's ``.xml`` with its ``.bin`` beside it, or an ONNX file.
        settings: see `CompileSettings`; None means the defaults.

    Returns:
        An ``openvino.CompiledModel``.

    Raises:
        BadInput: the model cannot be read, or a setting is out of range or refused.
        Unsupported: OpenVINO is not installed, has no such device or no kernel for the model, or did not take
            a setting.
    """
    settings = settings or CompileSettings()
    if settings.threads < 1 or settings.streams < 1:
        raise BadInput(
            f"threads and streams must be at least 1, got {settings.threads} and {settings.streams}"
        )
    if not model.is_file():
        raise BadInput(f"{model}: cannot be read: no such file")
    ov = _openvino()
    core = ov.Core()
    if settings.device.partition(".")[0] not in core.available_devices:
        raise Unsupported(
            f"OpenVINO {ov.__version__} has no device {settings.device!r} here; it has: "
            f"{', '.join(core.available_devices) or 'none'}"
        )
    try:
        read = core.read_model(model)
    except RuntimeError as error:
        raise BadInput(
            f"{model}: OpenVINO {ov.__version__} cannot read it; it may be truncated, its .bin missing, "
            f"or not a model: {error}"
        ) from error
    try:
        compiled = core.compile_model(read, settings.device, _properties(settings))
    except RuntimeError as error:
        raise Unsupported(f"{model}: OpenVINO {ov.__version__} cannot compile it: {error}") from error
    _check_used(compiled, settings)
    return compiled


def openvino_version() -> str:
    """OpenVINO's version.

    Raises:
        Unsupported: it is not installed.
    """
    return str(_openvino().__version__)


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise Unsupported(
            f"OpenVINO is not installed ({error}); install it with `pip install 'octavo[openvino]'`"
        ) from error
    return openvino


def _properties(settings: CompileSettings) -> dict[str, str]:
    return {
        "INFERENCE_NUM_THREADS": str(settings.threads),
        "NUM_STREAMS": str(settings.streams),
        "INFERENCE_PRECISION_HINT": settings.precision,
        "PERFORMANCE_HINT": settings.hint,
        **settings.config,
    }


def _check_used(compiled: Any, settings: CompileSettings) -> None:
    wanted = {"INFERENCE_NUM_THREADS": settings.threads, "NUM_STREAMS": settings.streams}
    for name, value in wanted.items():
        used = int(compiled.get_property(name))
        if used != value:
            raise Unsupported(
                f"OpenVINO took {used} for {name}, not {value}; this machine may have fewer cores"
            )
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if precision != settings.precision:
        raise Unsupported(f"OpenVINO computes in {precision} on this CPU, not in {settings.precision}")
