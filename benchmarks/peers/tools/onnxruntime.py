"""ONNX Runtime's own tools.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, which advises dynamic
quantization for transformers; pre-processing; ``per_channel`` where accuracy is short; and ``reduce_range``
on CPUs without VNNI, for weights per channel above all.
"""

from typing import Any

from benchmarks.peers.registry import register_peer
from deploy.cpu import CpuInfo, has_vnni

__all__: list[str] = []

_REQUIREMENTS = "onnxruntime.txt"
_HISTOGRAM_IMAGES = 64  # histograms keep what every layer gave for every image: about 40 MB each for ViT-Tiny
_GUARDED = "7-bit weights without VNNI"


@register_peer(
    "ort-dynamic",
    tool="ONNX Runtime quantize_dynamic",
    settings="defaults",
    script="ort_dynamic.py",
    requirements=_REQUIREMENTS,
)
def dynamic(cpu: CpuInfo) -> dict[str, Any]:
    """As it comes."""
    del cpu
    return {}


@register_peer(
    "ort-dynamic-channel",
    tool="ONNX Runtime quantize_dynamic",
    settings=f"pre-processed, weights per channel, {_GUARDED}",
    script="ort_dynamic.py",
    requirements=_REQUIREMENTS,
)
def dynamic_channel(cpu: CpuInfo) -> dict[str, Any]:
    """What its documentation advises for transformers."""
    return {"preprocess": True, "arguments": {"per_channel": True, "reduce_range": not has_vnni(cpu)}}


@register_peer(
    "ort-static",
    tool="ONNX Runtime quantize_static",
    settings="defaults",
    script="ort_static.py",
    requirements=_REQUIREMENTS,
)
def static(cpu: CpuInfo) -> dict[str, Any]:
    """As it comes: every operator that it knows, signed, one scale per tensor, min and max."""
    del cpu
    return {}


@register_peer(
    "ort-static-minmax",
    tool="ONNX Runtime quantize_static",
    settings=f"pre-processed, Conv, MatMul and Gemm only, u8 and s8 per channel, {_GUARDED}, min and max",
    script="ort_static.py",
    requirements=_REQUIREMENTS,
)
def static_minmax(cpu: CpuInfo) -> dict[str, Any]:
    """What its documentation advises where accuracy is short."""
    return {"preprocess": True, "arguments": _advised(cpu, "MinMax")}


@register_peer(
    "ort-static-percentile",
    tool="ONNX Runtime quantize_static",
    settings=f"as ort-static-minmax, but the 99.999th percentile of {_HISTOGRAM_IMAGES} images",
    script="ort_static.py",
    requirements=_REQUIREMENTS,
)
def static_percentile(cpu: CpuInfo) -> dict[str, Any]:
    """The same with its default percentile."""
    return {
        "preprocess": True,
        "images": _HISTOGRAM_IMAGES,
        "arguments": _advised(cpu, "Percentile"),
    }


def _advised(cpu: CpuInfo, method: str) -> dict[str, Any]:
    return {
        "quant_format": "QDQ",
        "activation_type": "QUInt8",
        "weight_type": "QInt8",
        "per_channel": True,
        "reduce_range": not has_vnni(cpu),
        "op_types_to_quantize": ["Conv", "MatMul", "Gemm"],
        "calibrate_method": method,
    }
