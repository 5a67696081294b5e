"""AMD Quark.

Source: the preset that its documentation names for INT8 on CPUs, and SmoothQuant, which it offers for
transformers: https://quark.docs.amd.com/latest/onnx/user_guide_accuracy_improvement.html
"""

from typing import Any

from benchmarks.peers.registry import register_peer
from deploy.cpu import CpuInfo

__all__: list[str] = []

_TOOL = "AMD Quark (ONNX)"
_SCRIPT, _REQUIREMENTS = "quark_quantize.py", "quark.txt"
_HISTOGRAM_IMAGES = 64  # as for ONNX Runtime, whose calibrators it uses


@register_peer(
    "quark",
    tool=_TOOL,
    settings=f"preset A8W8: all operators, s8, percentile of {_HISTOGRAM_IMAGES} images",
    script=_SCRIPT,
    requirements=_REQUIREMENTS,
)
def preset(cpu: CpuInfo) -> dict[str, Any]:
    """Its preset for INT8 on CPUs."""
    del cpu
    return {"preset": "A8W8", "images": _HISTOGRAM_IMAGES}


@register_peer(
    "quark-smooth",
    tool=_TOOL,
    settings="SmoothQuant 0.5; Conv, MatMul and Gemm only, u8 and s8 per channel, min and max",
    script=_SCRIPT,
    requirements=_REQUIREMENTS,
)
def smooth(cpu: CpuInfo) -> dict[str, Any]:
    """SmoothQuant at its default strength, and what is left in float for ONNX Runtime's tools, too."""
    del cpu
    return {"per_channel": True, "smooth_alpha": 0.5, "op_types": ["Conv", "MatMul", "Gemm"]}
