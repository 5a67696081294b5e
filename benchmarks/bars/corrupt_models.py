"""Ways to spoil the structure of an ONNX file.

Each of them breaks a rule of ONNX's specification, or one of TensorRT's, so that what it leaves must be
refused. All draw from a generator, so that a seed names a file.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from benchmarks.bars.corrupt_bytes import Change

__all__ = ["STRUCTURE"]

STRUCTURE: dict[str, Change] = {}
"""Name to change."""

_HUGE = 2**40
_DEPTH = 50  # times three: more than protobuf reads


def _structure(change: Callable[[ModelProto, Generator], None]) -> Callable[[ModelProto, Generator], None]:
    def changed(content: bytes, rng: Generator) -> bytes:
        model = ModelProto.FromString(content)
        change(model, rng)
        return bytes(model.SerializeToString())

    STRUCTURE[change.__name__.strip("_")] = changed
    return change


def _some(rng: Generator, model: ModelProto, *operators: str) -> NodeProto:
    """A node, of one of these operators where they are named."""
    nodes: list[NodeProto] = [node for node in model.graph.node if not operators or node.op_type in operators]
    return nodes[int(rng.integers(len(nodes)))]


def _constant(rng: Generator, model: ModelProto, ending: str) -> TensorProto:
    found: list[TensorProto] = [tensor for tensor in model.graph.initializer if tensor.name.endswith(ending)]
    return found[int(rng.integers(len(found)))]


def _set(tensor: TensorProto, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


# --- structure: what a file must have ---


@_structure
def _no_graph(model: ModelProto, _: Generator) -> None:
    model.ClearField("graph")


@_structure
def _no_opset(model: ModelProto, _: Generator) -> None:
    del model.opset_import[:]


@_structure
def _unknown_opset(model: ModelProto, rng: Generator) -> None:
    model.opset_import[0].version = int(rng.choice([0, 1, 10**6]))


@_structure
def _unknown_ir_version(model: ModelProto, rng: Generator) -> None:
    model.ir_version = int(rng.choice([0, 10**6]))


@_structure
def _no_operator(model: ModelProto, rng: Generator) -> None:
    _some(rng, model).ClearField("op_type")


@_structure
def _unknown_operator(model: ModelProto, rng: Generator) -> None:
    _some(rng, model).op_type = "Sqeueze"


@_structure
def _other_runtimes_operator(model: ModelProto, rng: Generator) -> None:
    _some(rng, model, "Softmax", "MatMul").domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _nested_too_deep(content: bytes, rng: Generator) -> bytes:
    """Graphs within graphs; written by hand, for protobuf itself refuses to."""
    inner = b""
    for field in (6, 5, 1) * int(rng.integers(_DEPTH, 10 * _DEPTH)):  # a graph in an attribute of a node
        inner = bytes([field << 3 | 2]) + _varint(len(inner)) + inner
    return content + bytes([7 << 3 | 2]) + _varint(len(inner)) + inner  # ModelProto.graph goes on


STRUCTURE["nested_too_deep"] = _nested_too_deep


def _varint(value: int) -> bytes:
    """Protocol Buffers, "Base 128 Varints"."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


# --- structure: how nodes hang together ---


@_structure
def _dangling_input(model: ModelProto, rng: Generator) -> None:
    node = _some(rng, model)
    node.input[0] = f"{node.input[0]}.gone"


@_structure
def _dropped_node(model: ModelProto, rng: Generator) -> None:
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


@_structure
def _dropped_constant(model: ModelProto, rng: Generator) -> None:
    used = {name for node in model.graph.node for name in node.input}
    places = [i for i, tensor in enumerate(model.graph.initializer) if tensor.name in used]
    del model.graph.initializer[int(rng.choice(places))]


@_structure
def _cycle(model: ModelProto, rng: Generator) -> None:
    _some(rng, model, "Add").input[0] = model.graph.node[-1].output[0]


@_structure
def _disordered_nodes(model: ModelProto, _: Generator) -> None:
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@_structure
def _two_writers(model: ModelProto, rng: Generator) -> None:
    first, second = rng.choice(len(model.graph.node), size=2, replace=False)
    model.graph.node[int(second)].output[0] = model.graph.node[int(first)].output[0]


@_structure
def _unknown_output(model: ModelProto, _: Generator) -> None:
    model.graph.output[0].name = "nowhere"


# --- structure: constants, shapes and types ---


@_structure
def _constant_without_values(model: ModelProto, rng: Generator) -> None:
    _constant(rng, model, ".codes").ClearField("raw_data")


@_structure
def _constant_of_other_size(model: ModelProto, rng: Generator) -> None:
    tensor = _constant(rng, model, ".codes")
    tensor.dims[int(rng.integers(len(tensor.dims)))] += int(rng.integers(1, 100))


@_structure
def _constant_of_negative_size(model: ModelProto, rng: Generator) -> None:
    _constant(rng, model, ".codes").dims[0] = -int(rng.integers(1, 100))


@_structure
def _constant_of_huge_size(model: ModelProto, rng: Generator) -> None:
    _constant(rng, model, ".codes").dims[0] = int(rng.choice([_HUGE, 2**62]))


@_structure
def _constant_of_other_type(model: ModelProto, rng: Generator) -> None:
    kinds = [TensorProto.UNDEFINED, TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, 99]
    _constant(rng, model, ".codes").data_type = int(rng.choice(kinds))


@_structure
def _constant_in_a_file_outside(model: ModelProto, rng: Generator) -> None:
    tensor = _constant(rng, model, ".codes")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(
        key="location", value=str(rng.choice(["../weights.bin", "/etc/hostname", "gone.bin"]))
    )


@_structure
def _factors_that_do_not_fit(model: ModelProto, rng: Generator) -> None:
    tensor = _constant(rng, model, "mlp.fc1.weight.codes")
    _set(tensor, numpy_helper.to_array(tensor).T.copy())


@_structure
def _huge_input(model: ModelProto, _: Generator) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 2**31 - 1


@_structure
def _impossible_reshape(model: ModelProto, rng: Generator) -> None:
    name = _some(rng, model, "Reshape").input[1]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    _set(tensor, numpy_helper.to_array(tensor) * 0 + int(rng.choice([-7, 7919, _HUGE])))


@_structure
def _impossible_permutation(model: ModelProto, rng: Generator) -> None:
    attribute = next(a for a in _some(rng, model, "Transpose").attribute if a.name == "perm")
    attribute.ints[0] = int(rng.choice([-9, 9, attribute.ints[1]]))


@_structure
def _attribute_of_other_type(model: ModelProto, rng: Generator) -> None:
    node = _some(rng, model, "Transpose", "Conv")
    name = "perm" if node.op_type == "Transpose" else "strides"
    attribute = next(a for a in node.attribute if a.name == name)
    attribute.CopyFrom(helper.make_attribute(name, "text"))


# --- structure: quantization ---


@_structure
def _impossible_axis(model: ModelProto, rng: Generator) -> None:
    nodes = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0].endswith(".codes")]
    attribute = next(a for a in nodes[int(rng.integers(len(nodes)))].attribute if a.name == "axis")
    attribute.i = int(rng.choice([-9, 9, 2**40]))


@_structure
def _scales_of_other_number(model: ModelProto, rng: Generator) -> None:
    tensor = _constant(rng, model, ".weight.scale")
    _set(tensor, numpy_helper.to_array(tensor)[:-1].copy())


@_structure
def _scale_that_is_none(model: ModelProto, rng: Generator) -> None:
    tensor = _constant(rng, model, ".scale")
    values = numpy_helper.to_array(tensor).copy()
    values.ravel()[int(rng.integers(values.size))] = rng.choice([0.0, -0.5, np.nan, np.inf])
    _set(tensor, values)


@_structure
def _zero_point_not_zero(model: ModelProto, rng: Generator) -> None:
    tensor = _constant(rng, model, ".zero_point")
    _set(tensor, np.asarray(rng.integers(1, 127), np.int8))


@_structure
def _unsigned_codes(model: ModelProto, rng: Generator) -> None:
    tensor = _constant(rng, model, ".zero_point")
    _set(tensor, np.asarray(0, np.uint8))
