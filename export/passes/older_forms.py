"""Operators in the words of an older operator set: what had no such operator, or took it in other words.

Gelu (opset 20) is written out. The sums over axes (18) take their axes as an attribute again, and Split (18)
is told the sizes of its parts.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from export.passes.values import array_of, int_attribute, put_initializer, replace_value

__all__ = ["FORMS"]


def _gelu(model: ir.Model, node: ir.Node) -> str | None:
    """½ x (1 + erf(x / √2)), or ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))): Gelu of opset 20."""
    approximate = node.attributes.get("approximate")
    chain = _Chain(model, node)
    (x,) = node.inputs
    assert x is not None
    if approximate is not None and approximate.as_string() == "tanh":
        cube = chain.call("Mul", chain.call("Mul", x, x), x)
        inner = chain.call("Add", x, chain.call("Mul", cube, chain.number("cubic", 0.044715)))
        bend = chain.call("Tanh", chain.call("Mul", inner, chain.number("factor", np.sqrt(2 / np.pi))))
    else:
        bend = chain.call("Erf", chain.call("Div", x, chain.number("root", np.sqrt(2))))
    product = chain.call("Mul", x, chain.call("Add", bend, chain.number("one", 1.0)))
    chain.put(chain.call("Mul", product, chain.number("half", 0.5)))
    return None


def _reduce(model: ir.Model, node: ir.Node) -> str | None:
    """Axes as an attribute; none means all of them, in both."""
    del model
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    values = array_of(axes)
    if axes is not None and values is None:
        return "its axes are computed"
    if values is not None and values.size:
        node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in values.ravel()])
    elif int_attribute(node, "noop_with_empty_axes", 0):
        return "it is told to do nothing without axes"
    node.attributes.pop("noop_with_empty_axes", None)
    node.resize_inputs(1)
    return None


def _split(model: ir.Model, node: ir.Node) -> str | None:
    """Parts of equal size, the last one smaller where they do not divide the axis."""
    if "num_outputs" not in node.attributes:
        return None
    axis, parts = int_attribute(node, "axis", 0), len(node.outputs)
    shape = node.inputs[0].shape  # type: ignore[union-attr]  # Split has an input
    size = shape[axis] if shape is not None else None
    if not isinstance(size, int):
        return "the size of the axis that it splits is open"
    part = -(-size // parts)
    sizes = [min(part, size - part * i) for i in range(parts)]
    del node.attributes["num_outputs"]
    node.resize_inputs(2)
    node.replace_input_with(1, put_initializer(model, f"{node.name}.sizes", np.array(sizes, np.int64)))
    return None


class _Chain:
    """Elementwise nodes in the place of one, named after it: ``mlp.act/Gelu_Erf``."""

    def __init__(self, model: ir.Model, node: ir.Node) -> None:
        self._model, self._node = model, node
        self._made: list[ir.Node] = []

    def number(self, name: str, value: float) -> ir.Value:
        """A constant of the type that the node computes in."""
        kind = self._node.inputs[0].dtype or ir.DataType.FLOAT  # type: ignore[union-attr]
        return put_initializer(self._model, f"{self._node.name}.{name}", np.array(value, kind.numpy()))

    def call(self, op_type: str, *inputs: ir.Value) -> ir.Value:
        """A node's output, of the same type and shape as all others."""
        count = sum(made.op_type == op_type for made in self._made)
        name = f"{self._node.name}_{op_type}{f'_{count + 1}' if count else ''}"
        made = ir.node(op_type, inputs, name=name)
        like = self._node.outputs[0]
        made.outputs[0].name, made.outputs[0].type, made.outputs[0].shape = (
            f"{name}.output",
            like.type,
            like.shape,
        )
        self._made.append(made)
        return made.outputs[0]

    def put(self, result: ir.Value) -> None:
        """Let ``result`` stand for the node's output."""
        self._model.graph.insert_after(self._node, self._made)
        replace_value(self._node.outputs[0], result)
        self._model.graph.remove(self._node, safe=True)


_SUMS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

FORMS: Mapping[str, tuple[int, Callable[[ir.Model, ir.Node], str | None]]] = {
    "Gelu": (20, _gelu),
    "Split": (18, _split),
    **{f"Reduce{name}": (18, _reduce) for name in _SUMS},
}
"""Operator to the opset that brought its newer form, and what writes the older one or says why it cannot."""
