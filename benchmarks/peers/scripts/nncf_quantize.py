"""NNCF's ``nncf.quantize``, on an OpenVINO model or on ONNX itself.

Options: ``backend`` is ``openvino`` or ``onnx``; ``arguments`` are those of ``nncf.quantize``, and
``advanced`` those of ``AdvancedQuantizationParameters``, with enumerations by name.

Source: https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training/basic-quantization-flow.html
"""

from typing import Any

import nncf
import onnx
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

from benchmarks.peers.scripts.peer_protocol import Job, main

_ENUMS = {"model_type": nncf.ModelType, "preset": nncf.QuantizationPreset, "overflow_fix": OverflowFix}


def quantize(job: Job) -> None:
    """Quantize into ``model.xml`` and ``model.bin``, or ``model.onnx``."""
    images = nncf.Dataset(job.chosen, _Rows(job))
    arguments = _named(job.options.get("arguments", {})) | {"subset_size": len(job.chosen)}
    if "advanced" in job.options:
        advanced = AdvancedQuantizationParameters(**_named(job.options["advanced"]))
        arguments["advanced_parameters"] = advanced
    if job.options["backend"] == "onnx":
        onnx.save(nncf.quantize(onnx.load(job.model), images, **arguments), job.out / "model.onnx")
        return
    import openvino

    found = nncf.quantize(openvino.Core().read_model(job.model), images, **arguments)
    openvino.save_model(found, job.out / "model.xml", compress_to_fp16=False)


class _Rows:
    """Image number to feed, one image at a time as NNCF's documentation wants it."""

    def __init__(self, job: Job) -> None:
        self._images, self._name = job.images, job.input_name

    def __call__(self, index: int) -> dict[str, Any]:
        return {self._name: self._images[index : index + 1].copy()}


def _named(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: _ENUMS[name][value] if name in _ENUMS else value for name, value in arguments.items()}


if __name__ == "__main__":
    main(quantize, ("nncf", "openvino", "onnx", "onnxruntime", "numpy"))
