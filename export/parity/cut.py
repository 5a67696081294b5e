"""Cut an exported model into its quantized layers, to feed each the same input as its torch twin."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from quant.errors import InternalError

__all__ = ["Cut", "LayerEnds", "cut_model", "dynamic_weights", "layer_ends"]

_MOVES = ("Reshape", "Transpose")
_PRODUCTS = ("MatMul", "Gemm", "Conv", "MatMulNBits")
_INT8_LEVEL = 4  # MatMulNBits then quantizes its activations itself


@dataclass(frozen=True)
class LayerEnds:
    """Where a quantized layer begins and ends in the ONNX graph.

    Attributes:
        values: tensor that its QuantizeLinear reads; that its product reads, where only the weight is
            quantized.
        codes: tensor that QuantizeLinear writes; in FP8, which NumPy cannot hold, the numbers behind
            DequantizeLinear; where only the weight is quantized, ``values``.
        product: tensor that its product writes.
        result: tensor with the layer's result, bias included, behind its output's Q/DQ where there is one.
        patches: the layer is a convolution written as a product, with its channels last.
        dynamic: its kernel quantizes the activations to int8 on the fly.
    """

    values: str
    codes: str
    product: str
    result: str
    patches: bool = False
    dynamic: bool = False


@dataclass(frozen=True, eq=False)
class Cut:
    """A model made of the parts between inputs and outputs.

    Attributes:
        model: inputs and outputs are called like the tensors of the whole model.
        inputs: their names.
        outputs: their names.
    """

    model: ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def layer_ends(graph: GraphProto, activation: str | None, weight: str) -> LayerEnds:
    """Find a layer by the names of its sites.

    Args:
        graph: an exported graph.
        activation: site of the layer's input, ``blocks.7.mlp.fc2.input``; None where it is not quantized.
        weight: site of its weight.

    Raises:
        InternalError: the graph has no such layer.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    producer = {name: node for node in graph.node for name in node.output}
    products = [
        reader
        for node in readers.get(f"{weight}.scale", [])
        for reader in ([node] if node.op_type in _PRODUCTS else readers[node.output[0]])
        if reader.op_type in _PRODUCTS
        and (activation is None or _reads(producer, reader.input[0], f"{activation}.scale"))
    ]
    quantize = next(
        (n for n in readers.get(f"{activation}.scale", []) if n.op_type in ("QuantizeLinear", "Div")), None
    )
    if not products or (activation is not None and quantize is None):
        raise InternalError(f"no layer with the sites '{activation}' and '{weight}' in the exported graph")
    product = products[0]
    values = codes = product.input[0]
    if quantize is not None:
        values = quantize.input[0]
        clip = next((n for n in graph.node if n.output[0] == values and n.name == f"{activation}/Clip"), None)
        values = clip.input[0] if clip is not None else values
        codes = codes if _is_fp8(graph, quantize) else quantize.output[0]
    return LayerEnds(
        values=values,
        codes=codes,
        product=product.output[0],
        result=_result(graph, readers, producer, product),
        patches="Conv_patches_" in product.name,
        dynamic=_is_dynamic(product),
    )


def dynamic_weights(graph: GraphProto) -> frozenset[str]:
    """The weight sites whose products quantize their activations to int8 on the fly."""
    return frozenset(node.input[2].removesuffix(".scale") for node in graph.node if _is_dynamic(node))


def _is_dynamic(product: NodeProto) -> bool:
    return product.op_type == "MatMulNBits" and any(
        a.name == "accuracy_level" and a.i == _INT8_LEVEL for a in product.attribute
    )


def _is_fp8(graph: GraphProto, quantize: NodeProto) -> bool:
    """Whether a quantizer writes FP8; its form as casts begins with a division."""
    types = {i.name: i.data_type for i in graph.initializer}
    return quantize.op_type == "Div" or types.get(quantize.input[2]) == TensorProto.FLOAT8E4M3FN


def _result(
    graph: GraphProto,
    readers: dict[str, list[NodeProto]],
    producer: Mapping[str, NodeProto],
    product: NodeProto,
) -> str:
    """The tensor behind a product's bias, and behind a convolution's own quantizer."""
    result: str = product.output[0]
    follower = _only(readers, result)
    constants = {i.name for i in graph.initializer}
    with_add = product.op_type in ("MatMul", "MatMulNBits")
    if with_add and follower is not None and follower.op_type == "Add":
        (bias,) = (name for name in follower.input if name != result)
        if bias in constants or (bias in producer and producer[bias].input[0] in constants):
            result = follower.output[0]
    return _behind_quantizer(readers, result) if product.op_type == "Conv" else result


def _reads(producer: Mapping[str, NodeProto], name: str, scale: str) -> bool:
    """Whether ``name`` is dequantized with ``scale``, at most moved around on the way."""
    node = producer.get(name)
    while node is not None and node.op_type in _MOVES:
        node = producer.get(node.input[0])
    return node is not None and node.op_type in ("DequantizeLinear", "Mul") and node.input[1] == scale


def cut_model(model: ModelProto, inputs: Iterable[str], outputs: Iterable[str]) -> Cut:
    """Keep only what computes ``outputs`` from ``inputs`` and constants.

    Raises:
        InternalError: an output also needs the model's own input.
    """
    wanted_inputs, wanted_outputs = tuple(dict.fromkeys(inputs)), tuple(dict.fromkeys(outputs))
    graph = model.graph
    producer = {name: node for node in graph.node for name in node.output}
    constants = {i.name: i for i in graph.initializer}
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    kept: set[int] = set()
    used: dict[str, None] = {}
    stack = list(wanted_outputs)
    while stack:
        name = stack.pop()
        if name in constants:
            used[name] = None
        if not name or name in wanted_inputs or name in constants:
            continue
        if name not in producer:
            raise InternalError(f"'{name}' cannot be cut off from the model's input")
        node = producer[name]
        if id(node) not in kept:
            kept.add(id(node))
            stack.extend(node.input)
    new = onnx.helper.make_graph(
        [node for node in graph.node if id(node) in kept],
        "layers",
        [_value(name, types) for name in wanted_inputs],
        [_value(name, types) for name in wanted_outputs],
        [constants[name] for name in sorted(used)],
    )
    result = onnx.helper.make_model(new, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    return Cut(result, wanted_inputs, wanted_outputs)


def _value(name: str, types: dict[str, int]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None)


def _only(readers: dict[str, list[NodeProto]], name: str) -> NodeProto | None:
    found = readers.get(name, [])
    return found[0] if len(found) == 1 else None


def _behind_quantizer(readers: dict[str, list[NodeProto]], name: str) -> str:
    """The tensor behind (Relu →) (Clip →) QuantizeLinear → DequantizeLinear, or ``name`` itself.

    Clip is ReLU6, or the limit of a format of fewer than 8 bits.
    """
    start = name
    while (node := _only(readers, start)) is not None and node.op_type in ("Relu", "Clip"):
        start = str(node.output[0])
    quantize = _only(readers, start)
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return name
    dequantize = readers.get(quantize.output[0], [])
    return str(dequantize[0].output[0]) if dequantize else name
