"""NVIDIA Model Optimizer. Its models are meant for TensorRT; here ONNX Runtime runs them on the CPU.

Source: https://nvidia.github.io/Model-Optimizer/guides/_onnx_quantization.html
"""

from typing import Any

from benchmarks.peers.registry import register_peer
from deploy.cpu import CpuInfo

__all__: list[str] = []

_TOOL = "NVIDIA Model Optimizer (ONNX)"
_SCRIPT, _REQUIREMENTS = "modelopt_quantize.py", "modelopt.txt"


@register_peer(
    "modelopt",
    tool=_TOOL,
    settings="INT8 defaults: entropy, float16",
    script=_SCRIPT,
    requirements=_REQUIREMENTS,
)
def defaults(cpu: CpuInfo) -> dict[str, Any]:
    """As it comes: ranges of least entropy, the remainder in float16."""
    del cpu
    return {"arguments": {"quantize_mode": "int8"}}


@register_peer(
    "modelopt-max",
    tool=_TOOL,
    settings="INT8, ranges by maximum, float32",
    script=_SCRIPT,
    requirements=_REQUIREMENTS,
)
def maximum(cpu: CpuInfo) -> dict[str, Any]:
    """Its other calibration, and the precision that CPUs have kernels for."""
    del cpu
    return {
        "arguments": {"quantize_mode": "int8", "calibration_method": "max", "high_precision_dtype": "fp32"}
    }
