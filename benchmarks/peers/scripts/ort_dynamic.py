"""ONNX Runtime's ``quantize_dynamic``: weights ahead of time, activations while it runs. No images are used.

Options: ``preprocess`` runs ``quant_pre_process`` first; ``arguments`` are those of ``quantize_dynamic``.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from onnxruntime.quantization import quantize_dynamic as ort_quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.peers.scripts.peer_protocol import Job, main


def quantize(job: Job) -> None:
    """Quantize into ``model.onnx``."""
    model = job.model
    if job.options.get("preprocess"):
        model = job.out / "preprocessed.onnx"
        quant_pre_process(str(job.model), str(model))
    ort_quantize_dynamic(str(model), str(job.out / "model.onnx"), **job.options.get("arguments", {}))


if __name__ == "__main__":
    main(quantize, ("onnxruntime", "onnx", "numpy"))
