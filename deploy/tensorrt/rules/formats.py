"""Rules about number formats."""

import numpy as np
from onnx import NodeProto, TensorProto

from deploy.tensorrt.rules.graph import QDQ, Graph
from deploy.tensorrt.rules.registry import rule

__all__: list[str] = []

_CODES = (TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1)
_OPSETS: dict[int, int] = {
    TensorProto.FLOAT8E4M3FN: 19,
    TensorProto.INT4: 21,
    TensorProto.FLOAT4E2M1: 23,
}
_TARGET = "lower the model to target tensorrt, which writes signed codes around 0"


@rule("zero-point")
def _zero_point(graph: Graph, node: NodeProto) -> tuple[str, str] | None:
    """Zero points are constants of zeros (NvInfer.h, IQuantizeLayer)."""
    if node.op_type not in QDQ or len(node.input) < 3 or not node.input[2]:
        return None
    values = graph.constant(node.input[2])
    if values is None:
        return "its zero point is computed", "only a constant of zeros is taken"
    if np.any(values.astype(np.float32) != 0):
        first = float(values.astype(np.float32).ravel()[np.flatnonzero(values.astype(np.float32))[0]])
        return f"its zero point is {first:g}, not 0", _TARGET
    return None


@rule("code-type")
def _type(graph: Graph, node: NodeProto) -> tuple[str, str] | None:
    """INT8, INT4, FP8 (E4M3) and FP4 only. UINT8 activations would be read as INT8 without a word."""
    if node.op_type not in QDQ:
        return None
    kind = graph.code_type(node)
    if kind is None or kind in _CODES:
        return None
    name = TensorProto.DataType.Name(kind).lower()
    if node.op_type == "DequantizeLinear" and kind == TensorProto.INT32:
        return "a bias is stored in int32 codes", "keep biases in float: lower the model to target tensorrt"
    if kind == TensorProto.UINT8 and node.input[0] not in graph.tensors:
        return "its codes are uint8, which would be read as int8: another range, without a word", _TARGET
    return f"its codes are {name}", f"int8, int4, float8e4m3fn and float4e2m1 are taken; {_TARGET}"


@rule("opset")
def _opset(graph: Graph, node: NodeProto) -> tuple[str, str] | None:
    """Each format has an opset that brought it."""
    if node.op_type not in QDQ:
        return None
    scale = graph.constant(node.input[1])
    least = _OPSETS.get(graph.code_type(node) or 0, 10)
    if scale is not None and scale.size > 1:
        least = max(least, 13)
    if scale is not None and scale.dtype == np.float16:
        least = max(least, 19)
    if graph.opset >= least:
        return None
    return (
        f"its format needs opset {least}, the file has {graph.opset}",
        f"export with opset {least} or later",
    )


@rule("scale")
def _scale(graph: Graph, node: NodeProto) -> tuple[str, str] | None:
    """Scales are positive and finite, also of channels that are always 0."""
    if node.op_type not in QDQ:
        return None
    scale = graph.constant(node.input[1])
    if scale is None:
        return None
    values = scale.astype(np.float64)
    if np.all(np.isfinite(values) & (values > 0)):
        return None
    worst = values.ravel()[np.flatnonzero(~(np.isfinite(values) & (values > 0)))[0]]
    return (
        f"its scale is {worst:g}",
        "scales must be positive and finite; give dead channels any positive one",
    )


@rule("activation-granularity")
def _granularity(graph: Graph, node: NodeProto) -> tuple[str, str] | None:
    """Activations have one scale per tensor; with several, the product around them would run in float."""
    if node.op_type != "QuantizeLinear" or graph.is_constant(node.input[0]):
        return None
    scale = graph.constant(node.input[1])
    if scale is None or scale.size <= 1:
        return None
    return f"an activation has {scale.size} scales", "use granularity: per_tensor for activations"
