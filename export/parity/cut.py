"""Cut an exported model into its quantized layers, to feed each the same input as its torch twin."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from quant.errors import InternalError

__all__ = ["Cut", "LayerEnds", "cut_model", "layer_ends"]

_MOVES = ("Reshape", "Transpose")
_PRODUCTS = ("MatMul", "Gemm", "Conv")


@dataclass(frozen=True)
class LayerEnds:
    """Where a quantized layer begins and ends in the ONNX graph.

    Attributes:
        values: tensor that its QuantizeLinear reads.
        codes: tensor that QuantizeLinear writes.
        result: tensor with the layer's result, bias included, behind its output's Q/DQ where there is one.
        patches: the layer is a convolution written as a product, with its channels last.
    """

    values: str
    codes: str
    result: str
    patches: bool


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


def layer_ends(graph: GraphProto, activation: str, weight: str) -> LayerEnds:
    """Find a layer by the names of its two sites.

    Args:
        graph: an exported graph.
        activation: site of the layer's input, ``blocks.7.mlp.fc2.input``.
        weight: site of its weight.

    Raises:
        InternalError: the graph has no such layer.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    producer = {name: node for node in graph.node for name in node.output}
    scale = f"{activation}.scale"
    quantize = next((n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[1] == scale), None)
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[1] == f"{weight}.scale"]
    products = [
        reader
        for node in weights
        for reader in readers[node.output[0]]
        if reader.op_type in _PRODUCTS and _reads(producer, reader.input[0], scale)
    ]
    if quantize is None or not products:
        raise InternalError(f"no layer with the sites '{activation}' and '{weight}' in the exported graph")
    product = products[0]
    source = quantize.input[0]
    clip = next((n for n in graph.node if n.output[0] == source and n.name == f"{activation}/Clip"), None)
    result = product.output[0]
    follower = _only(readers, result)
    constants = {i.name for i in graph.initializer}
    if product.op_type == "MatMul" and follower is not None and follower.op_type == "Add":
        (bias,) = (name for name in follower.input if name != result)
        if bias in constants or (bias in producer and producer[bias].input[0] in constants):
            result = follower.output[0]
    if product.op_type == "Conv":
        result = _behind_quantizer(readers, result)
    return LayerEnds(
        values=clip.input[0] if clip is not None else source,
        codes=quantize.output[0],
        result=result,
        patches="Conv_patches_" in product.name,
    )


def _reads(producer: Mapping[str, NodeProto], name: str, scale: str) -> bool:
    """Whether ``name`` is dequantized with ``scale``, at most moved around on the way."""
    node = producer.get(name)
    while node is not None and node.op_type in _MOVES:
        node = producer.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear" and node.input[1] == scale


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
    """The tensor behind (Relu →) QuantizeLinear → DequantizeLinear, or ``name`` itself."""
    relu = _only(readers, name)
    start = relu.output[0] if relu is not None and relu.op_type in ("Relu", "Clip") else name
    quantize = _only(readers, start)
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return name
    dequantize = readers.get(quantize.output[0], [])
    return str(dequantize[0].output[0]) if dequantize else name
