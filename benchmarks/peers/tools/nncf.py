"""NNCF, on OpenVINO's representation and on ONNX.

Source: https://docs.openvino.ai, "Basic Quantization Flow", which advises ``model_type=TRANSFORMER`` for
transformers (it turns on SmoothQuant and asymmetric activations).
"""

from typing import Any

from benchmarks.peers.registry import register_peer
from deploy.cpu import CpuInfo

__all__: list[str] = []

_SCRIPT, _REQUIREMENTS = "nncf_quantize.py", "nncf.txt"
_TRANSFORMER = {"model_type": "TRANSFORMER"}


@register_peer(
    "nncf-openvino",
    tool="NNCF, run by OpenVINO",
    settings="defaults",
    script=_SCRIPT,
    requirements=_REQUIREMENTS,
    backend="openvino",
)
def defaults(cpu: CpuInfo) -> dict[str, Any]:
    """As it comes, but for all images of the run."""
    del cpu
    return {"backend": "openvino"}


@register_peer(
    "nncf-openvino-transformer",
    tool="NNCF, run by OpenVINO",
    settings="model type TRANSFORMER: SmoothQuant, asymmetric activations, fast bias correction",
    script=_SCRIPT,
    requirements=_REQUIREMENTS,
    backend="openvino",
)
def transformer(cpu: CpuInfo) -> dict[str, Any]:
    """What its documentation advises for transformers."""
    del cpu
    return {"backend": "openvino", "arguments": _TRANSFORMER}


@register_peer(
    "nncf-onnx-transformer",
    tool="NNCF's ONNX backend",
    settings="model type TRANSFORMER: SmoothQuant, asymmetric activations, fast bias correction",
    script=_SCRIPT,
    requirements=_REQUIREMENTS,
)
def onnx_transformer(cpu: CpuInfo) -> dict[str, Any]:
    """The same on ONNX, run by ONNX Runtime."""
    del cpu
    return {"backend": "onnx", "arguments": _TRANSFORMER}
