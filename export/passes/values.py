"""Small questions and edits on ONNX values and initializers."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["array_of", "int_attribute", "is_initializer", "only_reader", "put_initializer", "tidy"]


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
    value = model.graph.initializers.get(name)
    if value is None:
        value = ir.Value(name=name)
        value.const_value = tensor
        value.shape, value.type = tensor.shape, ir.TensorType(tensor.dtype)
        model.graph.register_initializer(value)
    else:
        value.const_value = tensor
        value.shape, value.type = tensor.shape, ir.TensorType(tensor.dtype)
    return value


def only_reader(value: ir.Value) -> ir.Node | None:
    """The single node that reads ``value``, or None when there are more, or it is a graph output."""
    users = value.uses()
    if len(users) != 1 or value.is_graph_output():
        return None
    return next(iter(users)).node


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def tidy(model: ir.Model) -> None:
    """Drop nodes and initializers that nothing reads, and sort the graph."""
    ir.passes.common.RemoveUnusedNodesPass()(model)
    model.graph.sort()
