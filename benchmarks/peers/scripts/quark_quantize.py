"""AMD Quark's ONNX post-training quantization.

Options: ``preset`` is the name of one of Quark's configurations; or ``per_channel``, ``smooth_alpha`` and
``op_types`` put one together: uint8 activations and int8 weights, calibrated by min and max, SmoothQuant of
that strength, only these operators. ``images`` limits the calibration images.

Source: https://quark.docs.amd.com/latest/onnx/basic_usage_onnx.html
"""

from collections.abc import Iterator
from typing import Any

from onnxruntime.quantization import CalibrationDataReader
from quark.onnx import ModelQuantizer, QConfig
from quark.onnx.quantization.config.algorithm import SmoothQuantConfig
from quark.onnx.quantization.config.spec import (
    CalibMethod,
    Int8Spec,
    QLayerConfig,
    QuantGranularity,
    UInt8Spec,
)

from benchmarks.peers.scripts.peer_protocol import Job, main


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no type information
    def __init__(self, job: Job) -> None:
        self._job = job
        self.rewind()

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)

    def rewind(self) -> None:
        """Start again: Quark reads the images several times."""
        self._feeds: Iterator[dict[str, Any]] = self._job.feeds()

    reset_iter = rewind


def quantize(job: Job) -> None:
    """Quantize into ``model.onnx``."""
    config = _preset(job.options) if "preset" in job.options else _composed(job.options)
    ModelQuantizer(config).quantize_model(str(job.model), str(job.out / "model.onnx"), _Reader(job))


def _preset(options: dict[str, Any]) -> Any:
    return QConfig.get_default_config(options["preset"])


def _composed(options: dict[str, Any]) -> Any:
    granularity = QuantGranularity.Channel if options["per_channel"] else QuantGranularity.Tensor
    return QConfig(
        global_config=QLayerConfig(
            activation=UInt8Spec(calibration_method=CalibMethod.MinMax),
            weight=Int8Spec(calibration_method=CalibMethod.MinMax, quant_granularity=granularity),
        ),
        algo_config=[SmoothQuantConfig(alpha=options["smooth_alpha"])],
        extra_options={"OpTypesToQuantize": options["op_types"]},
    )


if __name__ == "__main__":
    main(quantize, ("amd-quark", "onnxruntime", "onnx", "torch", "numpy"))
