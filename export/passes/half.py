"""Write everything that stays float in float16, scales included: a strongly typed graph for TensorRT.

TensorRT 11 takes the precision from the model, and the type of a scale must be the type of what Q reads and
DQ writes. Scales are rounded to float16 when they are chosen (:mod:`quant.encoding`), so that nothing moves
here.
Inputs and outputs of the graph stay float32, with a Cast behind and in front.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.passes.base import PassNote
from export.passes.values import is_initializer
from quant.errors import InternalError

__all__ = ["HalfRemainder"]

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
LARGEST = float(np.finfo(np.float16).max)


class HalfRemainder:
    """The pass, see the module's text."""

    name = "half_remainder"

    def requires(self, model: ir.Model) -> None:
        """The opset knows float16 scales (19)."""
        if model.opset_imports.get("", 0) < 19:
            raise InternalError("float16 scales need opset 19")

    def run(self, model: ir.Model) -> list[PassNote]:
        """Convert initializers, constants, casts and value types."""
        clipped = []
        for value in model.graph.initializers.values():
            if value.dtype == FLOAT and value.const_value is not None:
                array, beyond = _half(value.const_value.numpy())
                value.const_value = ir.tensor(array, name=value.name)
                value.type = ir.TensorType(HALF)
                clipped += [str(value.name)] if beyond else []
        for node in list(model.graph):
            _convert_attributes(node)
            for output in node.outputs:
                if output.dtype == FLOAT:
                    output.type = ir.TensorType(HALF)
        for value in list(model.graph.inputs):
            if value.dtype == FLOAT:
                _cast_input(model, value)
        for index, value in enumerate(list(model.graph.outputs)):
            if value.dtype == HALF:
                _cast_output(model, index, value)
        text = f"float16 remainder; clipped to ±{LARGEST:g}: {', '.join(clipped) or 'nothing'}"
        return [PassNote(self.name, "", True, text)]

    def ensures(self, model: ir.Model) -> None:
        """No float32 constant is left."""
        for value in model.graph.initializers.values():
            if is_initializer(value) and value.dtype == FLOAT:
                raise InternalError(f"'{value.name}' is still float32")


def _half(array: NDArray[np.generic]) -> tuple[NDArray[np.float16], bool]:
    values = np.asarray(array, dtype=np.float32)
    beyond = bool((np.abs(values[np.isfinite(values)]) > LARGEST).any())
    return np.clip(values, -LARGEST, LARGEST).astype(np.float16), beyond


def _convert_attributes(node: ir.Node) -> None:
    to = node.attributes.get("to")
    if node.op_type == "Cast" and to is not None and to.as_int() == FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", int(HALF))
    value = node.attributes.get("value")
    if node.op_type in ("Constant", "ConstantOfShape") and value is not None:
        tensor = value.as_tensor()
        if tensor.dtype == FLOAT:
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(_half(tensor.numpy())[0]))


def _cast_input(model: ir.Model, value: ir.Value) -> None:
    users = list(value.uses())
    cast = ir.node("Cast", [value], {"to": int(HALF)}, name=f"{value.name}/Cast")
    cast.outputs[0].name = f"{value.name}.half"
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(HALF), value.shape
    for user in users:
        user.node.replace_input_with(user.idx, cast.outputs[0])
    model.graph.insert_before(model.graph[0], cast)


def _cast_output(model: ir.Model, index: int, value: ir.Value) -> None:
    name = value.name
    value.name = f"{name}.half"
    cast = ir.node("Cast", [value], {"to": int(FLOAT)}, name=f"{name}/Cast")
    cast.outputs[0].name = name
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(FLOAT), value.shape
    model.graph.append(cast)
    model.graph.outputs[index] = cast.outputs[0]
