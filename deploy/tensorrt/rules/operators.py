"""Rules about operators and what stands around them."""

from onnx import NodeProto, TensorProto

from deploy.tensorrt.rules.graph import Graph
from deploy.tensorrt.rules.registry import rule

__all__: list[str] = []

_INTEGER = (
    *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"),
    *("QLinearAdd", "QLinearMul", "QGemm", "MatMulIntegerToFloat"),
)
_PRODUCTS = ("MatMul", "Gemm")
_WEIGHTED = (*_PRODUCTS, "Conv")
_OLDEST = 9


@rule("operator")
def _operator(graph: Graph, node: NodeProto) -> tuple[str, str] | None:
    """Integer operators are not read: integers are meant by Q/DQ pairs around float operators."""
    if node.op_type in _INTEGER:
        return f"the operator {node.op_type} is not read", "write Q/DQ pairs: lower to target tensorrt"
    functions = {(f.domain, f.name) for f in graph.model.functions}
    standard = node.domain in ("", "ai.onnx") or (node.domain, node.op_type) in functions
    if standard or (node.domain, node.op_type) == ("com.microsoft", "Gelu"):
        return None
    return (
        f"the operator {node.domain}::{node.op_type} is another runtime's own",
        "lower to target tensorrt, which keeps to standard operators",
    )


@rule("oldest-opset")
def _oldest(graph: Graph, node: NodeProto) -> tuple[str, str] | None:
    """Opset 9 is the oldest that is read; told once."""
    if graph.opset >= _OLDEST or node is not graph.model.graph.node[0]:
        return None
    return f"the file has opset {graph.opset}", f"export with opset {_OLDEST} or later"


@rule("attribute-range")
def _attribute_range(_: Graph, node: NodeProto) -> tuple[str, str] | None:
    """Integers of attributes fit 32 bits; the parser cuts the rest off, and an axis of 2⁴⁰ becomes 0."""
    for attribute in node.attribute:
        for value in (attribute.i, *attribute.ints):
            if not -(2**31) <= value < 2**31:
                return (
                    f"the attribute '{attribute.name}' is {value}, which would be read as another number",
                    "integers of attributes fit 32 bits",
                )
    return None


@rule("factor-types")
def _factor_types(graph: Graph, node: NodeProto) -> tuple[str, str] | None:
    """Quantized factors of a product have one type; int4 weights may meet int8 in a matrix product."""
    if node.op_type not in _WEIGHTED or len(node.input) < 2:
        return None
    first, second = (_codes(graph, name) for name in node.input[:2])
    if first is None or second is None or first == second:
        return None
    if node.op_type in _PRODUCTS and (first, second) == (TensorProto.INT8, TensorProto.INT4):
        return None
    names = " meets ".join(TensorProto.DataType.Name(kind).lower() for kind in (first, second))
    return f"{names} in a {node.op_type}", "write both factors in one type, or leave the activation in float"


@rule("attention")
def _attention(graph: Graph, node: NodeProto) -> tuple[str, str] | None:
    """The Attention operator has kernels for float16, not for float32 with four axes."""
    if node.op_type != "Attention" or node.domain not in ("", "ai.onnx"):
        return None
    infos = (*graph.model.graph.value_info, *graph.model.graph.input)
    types = {v.name: v.type.tensor_type for v in infos}
    known = types.get(node.input[0])
    if known is None or known.elem_type != TensorProto.FLOAT or len(known.shape.dim) != 4:
        return None
    return (
        "Attention on float32 with four axes has no kernel",
        "write it as MatMul and Softmax, or in float16",
    )


def _codes(graph: Graph, name: str) -> int | None:
    """The type of the codes that a tensor is dequantized from, at most moved around on the way."""
    node = graph.writer.get(name)
    while node is not None and node.op_type in ("Transpose", "Reshape", "Cast"):
        node = graph.writer.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear":
        return None
    return graph.code_type(node)
