"""Small questions and edits on ONNX values and initializers."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common  # not loaded with onnx_ir itself
from numpy.typing import NDArray

__all__ = [
    "array_of",
    "int_attribute",
    "is_initializer",
    "only_reader",
    "put_initializer",
    "replace_value",
    "tidy",
]


def is_initializer(value: ir.Value | None) -> bool:
    """Whether a value is a constant stored in the graph."""
    return value is not None and value.producer() is None and value.const_value is not None


def array_of(value: ir.Value | None) -> NDArray[np.generic] | None:
    """A constant's array, from an initializer or a Constant node, else None."""
    if value is None:
        return None
    constant = ir.convenience.get_const_tensor(value)
    return None if constant is None else np.asarray(constant.numpy())


def put_initializer(model: ir.Model, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Store ``array`` under ``name``, replacing what readers of an initializer of that name see."""
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    known = model.graph.initializers.get(name)
    value = ir.Value(name=name) if known is None else known
    value.const_value = tensor
    value.shape, value.type = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
    if known is None:
        model.graph.register_initializer(value)
    return value


def only_reader(value: ir.Value) -> ir.Node | None:
    """The single node that reads ``value``, or None when there are more, or it is a graph output."""
    users = value.uses()
    if len(users) != 1 or value.is_graph_output():
        return None
    return next(iter(users)).node


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Let everything that reads ``old`` read ``new``; an output of the graph keeps its name."""
    name, is_output = old.name, old.is_graph_output()
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if is_output:
        old.name = f"{name}.replaced"
        new.name = name


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def tidy(model: ir.Model) -> None:
    """Drop nodes and initializers that nothing reads, and sort the graph."""
    ir.passes.common.RemoveUnusedNodesPass()(model)
    model.graph.sort()
