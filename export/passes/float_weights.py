"""Store quantized weights in float32, behind a QuantizeLinear of their own.

DQ(codes, s)  becomes  DQ(Q(codes · s, s, 0), s, 0)

The numbers lie on the grid of their codes, so that Q gives the same codes back. TensorRT 8 reads weights no
other way: its developer guide ("Quantized Weights") wants them in float32, its parser refuses a constant of
int8 as the input of a DequantizeLinear, and a Q or DQ without a zero point.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.passes.base import PassNote
from export.passes.values import array_of, int_attribute, is_initializer, put_initializer, tidy
from quant.errors import InternalError

__all__ = ["FloatWeights"]


class FloatWeights:
    """The pass, see the module's text."""

    name = "float_weights"

    def __init__(self) -> None:
        self._codes: dict[str, NDArray[np.float32]] = {}

    def requires(self, model: ir.Model) -> None:
        """Codes are bytes with a scale per channel or tensor, and have no zero point yet."""
        for node in _stored_codes(model):
            if node.inputs[0].dtype is not ir.DataType.INT8 or "block_size" in node.attributes:  # type: ignore[union-attr]
                raise InternalError(f"the codes of '{node.name}' are no int8 with a scale per channel")
            if len(node.inputs) > 2 and node.inputs[2] is not None and np.any(_array(node.inputs[2])):
                raise InternalError(f"the codes of '{node.name}' have a zero point")

    def run(self, model: ir.Model) -> list[PassNote]:
        """Write the floats, and a Q in front of each DQ."""
        nodes = _stored_codes(model)
        for node in nodes:
            codes, scale = _array(node.inputs[0]), _array(node.inputs[1])
            site = _site(node)
            self._codes[site] = codes
            weight = put_initializer(model, f"{site}.grid", codes * _spread(scale, codes.ndim, node))
            zero = put_initializer(model, f"{site}.zero_point", np.zeros(scale.shape, np.int8))
            attributes = {"axis": int_attribute(node, "axis", 1)} if scale.ndim else None
            quantize = ir.node(
                "QuantizeLinear", [weight, node.inputs[1], zero], attributes, name=f"{node.name}_Quantize"
            )
            quantize.outputs[0].name = f"{node.name}_quantized"
            quantize.outputs[0].type = ir.TensorType(ir.DataType.INT8)
            quantize.outputs[0].shape = weight.shape
            model.graph.insert_before(node, quantize)
            node.resize_inputs(3)
            node.replace_input_with(0, quantize.outputs[0])
            node.replace_input_with(2, zero)
        tidy(model)
        return [PassNote(self.name, "", True, f"{len(nodes)} weights stored in float32, on their grid")]

    def ensures(self, model: ir.Model) -> None:
        """Every stored number gives its code back."""
        for node in model.graph:
            if node.op_type != "QuantizeLinear" or _site(node) not in self._codes:
                continue
            values, scale = _array(node.inputs[0]), _array(node.inputs[1])
            again = np.rint(values / _spread(scale, values.ndim, node))
            if not np.array_equal(again, self._codes[_site(node)]):
                raise InternalError(f"the weight of '{_site(node)}' does not give its codes back")


def _stored_codes(model: ir.Model) -> list[ir.Node]:
    """The DequantizeLinear nodes that read constants."""
    return [n for n in model.graph if n.op_type == "DequantizeLinear" and is_initializer(n.inputs[0])]


def _site(node: ir.Node) -> str:
    return str(node.inputs[1].name).removesuffix(".scale")  # type: ignore[union-attr]


def _spread(scale: NDArray[np.float32], rank: int, node: ir.Node) -> NDArray[np.float32]:
    """A scale [] or [C] in the shape that multiplies a tensor of ``rank`` along the axis of a Q or DQ."""
    axis = int_attribute(node, "axis", 1) % rank
    return scale.reshape([-1 if i == axis else 1 for i in range(rank)]) if scale.ndim else scale


def _array(value: ir.Value | None) -> NDArray[np.float32]:
    found = array_of(value)
    assert found is not None
    return np.asarray(found, dtype=np.float32)
