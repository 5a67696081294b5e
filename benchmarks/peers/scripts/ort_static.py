"""ONNX Runtime's ``quantize_static``.

Options: ``preprocess`` runs ``quant_pre_process`` first, as its documentation recommends; ``arguments`` are
those of ``quantize_static``, with types and methods by name; ``images`` limits the calibration images.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
from onnxruntime.quantization import quantize_static as ort_quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.peers.scripts.peer_protocol import Job, main

_ENUMS = {
    "quant_format": QuantFormat,
    "activation_type": QuantType,
    "weight_type": QuantType,
    "calibrate_method": CalibrationMethod,
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no type information
    def __init__(self, job: Job) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter(job.feeds())

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def quantize(job: Job) -> None:
    """Quantize into ``model.onnx``."""
    model = job.model
    if job.options.get("preprocess"):
        model = Path(job.out / "preprocessed.onnx")
        quant_pre_process(str(job.model), str(model))
    named = job.options.get("arguments", {})
    arguments = {name: _ENUMS[name][value] if name in _ENUMS else value for name, value in named.items()}
    ort_quantize_static(str(model), str(job.out / "model.onnx"), _Reader(job), **arguments)


if __name__ == "__main__":
    main(quantize, ("onnxruntime", "onnx", "numpy"))
