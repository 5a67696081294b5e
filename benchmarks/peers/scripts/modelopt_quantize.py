"""NVIDIA Model Optimizer's ONNX post-training quantization, calibrated on the CPU.

Options: ``arguments`` are those of ``modelopt.onnx.quantization.quantize``; ``images`` limits the
calibration images.

Source: https://nvidia.github.io/Model-Optimizer/guides/_onnx_quantization.html
"""

import shutil

from modelopt.onnx.quantization import quantize as modelopt_quantize

from benchmarks.peers.scripts.peer_protocol import Job, main


def quantize(job: Job) -> None:
    """Quantize into ``model.onnx``."""
    model = job.out / "float.onnx"  # files of its own are written beside the input
    shutil.copyfile(job.model, model)
    modelopt_quantize(
        str(model),
        calibration_data={job.input_name: job.images[job.chosen]},
        calibration_eps=["cpu"],
        output_path=str(job.out / "model.onnx"),
        **job.options.get("arguments", {}),
    )


if __name__ == "__main__":
    main(quantize, ("nvidia-modelopt", "onnxruntime", "onnx", "torch", "numpy"))
