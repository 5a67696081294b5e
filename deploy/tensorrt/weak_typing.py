"""TensorRT 8.5 and 8.6: precision comes from the builder's flags, and files are float32 in opset 17 at most.

Which version it is, is told by what its module has: no strong typing but a flag for FP16 is version 8, and
layer normalization came with 8.6.

Sources: docs/operators.md of onnx-tensorrt, branches 8.5-GA and 8.6-GA; the developer guide of TensorRT 8.6,
"Working with INT8", "Quantized Weights".
"""

from typing import Any

from onnx import NodeProto, TensorProto

from deploy.tensorrt.library import Library
from deploy.tensorrt.rules.graph import QDQ, Graph, layer_of
from quant.errors import Unsupported

__all__ = ["OPSET", "check_weakly_typed", "is_weakly_typed", "precision_flags"]

OPSET = 17
"""The newest that TensorRT 8.5 and 8.6 read."""

_CODES: dict[int, str] = {
    TensorProto.FLOAT8E4M3FN: "FP8",
    TensorProto.INT4: "4-bit codes",
    TensorProto.UINT4: "4-bit codes",
    TensorProto.FLOAT4E2M1: "FP4",
}
_HALVES: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


def is_weakly_typed(trt: Any) -> bool:
    """Whether a library takes precision from flags and has no other way.

    Args:
        trt: its module.
    """
    flags = trt.NetworkDefinitionCreationFlag
    return not hasattr(flags, "STRONGLY_TYPED") and hasattr(trt.BuilderFlag, "FP16")


def check_weakly_typed(graph: Graph, what: str, library: Library) -> None:
    """Refuse files that are not for TensorRT 8, before its parser sees them.

    Args:
        graph: the model.
        what: what messages call it, such as its path.
        library: TensorRT 8.

    Raises:
        Unsupported: naming the first layer, and how to get a file that is taken.
    """
    reason = next((r for node in graph.nodes if (r := _why_not(graph, node)) is not None), None)
    if reason is None and graph.opset > OPSET:
        reason = f"the file has opset {graph.opset}, it reads up to {OPSET}"
    if reason is not None:
        raise Unsupported(
            f"{what}: {library.name} {library.version}: {reason}; build the `tensorrt8` lowering: add "
            "tensorrt8 to `targets`"
        )
    if hasattr(library.module, "INormalizationLayer"):
        return
    for node in graph.nodes:
        if node.op_type == "LayerNormalization":
            raise Unsupported(
                f"{what}: {library.name} {library.version} does not take '{layer_of(node)}': "
                "LayerNormalization is known from TensorRT 8.6 on (JetPack 6)"
            )


def precision_flags(graph: Graph) -> tuple[str, ...]:
    """The builder flags of a model: FP16 for what stays float, INT8 where something is quantized."""
    return ("FP16", "INT8") if any(node.op_type in QDQ for node in graph.nodes) else ("FP16",)


def _why_not(graph: Graph, node: NodeProto) -> str | None:
    """What a node has that TensorRT 8 does not take."""
    where = f"'{layer_of(node)}'"
    if node.op_type in QDQ:
        code = _CODES.get(graph.code_type(node) or 0)
        if code is not None:
            return f"{where} has {code}"
        if node.input[0] in graph.tensors and node.op_type == "DequantizeLinear":
            return f"{where} has its weight in int8 codes, it quantizes weights itself"
        if len(node.input) < 3 or not node.input[2]:
            return f"{where} has a {node.op_type} without a zero point"
    for name in node.input:
        tensor = graph.tensors.get(name)
        if tensor is not None and tensor.data_type in _HALVES:
            return f"{where} has constants in {_HALVES[tensor.data_type]}"
    return None
