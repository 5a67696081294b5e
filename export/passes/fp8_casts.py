"""Write FP8 Q/DQ pairs of activations as casts, which ONNX Runtime leaves where they are.

ONNX Runtime computes QuantizeLinear to FLOAT8E4M3FN as specified, but its optimizer treats the pair like one
of integers: it moves it across Squeeze and Transpose and fuses it into MatMulIntegerToFloat, which have no
FP8 kernels, and then refuses the model (1.31.1). The same numbers, bit for bit, are::

    QuantizeLinear(x, s)    = Cast(x / s, to FLOAT8E4M3FN, saturating)
    DequantizeLinear(c, s)  = Cast(c, to FLOAT) · s

so that accuracy can be measured where no FP8 hardware is. Weights keep their DequantizeLinear.
"""

import onnx_ir as ir

from export.passes.base import PassNote
from export.passes.values import is_initializer, replace_value, tidy
from export.storage import FP8
from quant.errors import InternalError

__all__ = ["Fp8Casts"]


class Fp8Casts:
    """The pass, see the module's text."""

    name = "fp8_casts"

    def requires(self, model: ir.Model) -> None:
        """Nothing."""

    def run(self, model: ir.Model) -> list[PassNote]:
        """Replace every QuantizeLinear to FP8 and every DequantizeLinear of such codes."""
        count = 0
        for node in list(model.graph):
            if not _is_fp8_pair(node):
                continue
            first, second = ("Div", "Cast") if node.op_type == "QuantizeLinear" else ("Cast", "Mul")
            to = FP8 if node.op_type == "QuantizeLinear" else ir.DataType.FLOAT
            value, scale = node.inputs[:2]
            inner = _call(model, node, first, [value, scale] if first == "Div" else [value], to)
            outer = _call(model, node, second, [inner, scale] if second == "Mul" else [inner], to)
            replace_value(node.outputs[0], outer)
            count += node.op_type == "QuantizeLinear"
        tidy(model)
        text = f"FP8 is simulated: {count} quantizers written as casts"
        return [PassNote(self.name, "", True, text)] if count else []

    def ensures(self, model: ir.Model) -> None:
        """No activation is quantized to FP8 by Q/DQ operators."""
        for node in model.graph:
            if _is_fp8_pair(node):
                raise InternalError(f"'{node.name}' still quantizes to FP8")


def _is_fp8_pair(node: ir.Node) -> bool:
    if node.op_type == "QuantizeLinear":
        return node.outputs[0].dtype is FP8
    codes = node.inputs[0] if node.op_type == "DequantizeLinear" else None
    return codes is not None and codes.dtype is FP8 and not is_initializer(codes)


def _call(
    model: ir.Model, node: ir.Node, op_type: str, inputs: list[ir.Value | None], to: ir.DataType
) -> ir.Value:
    """A node in front of ``node``; a Cast goes to ``to``, the arithmetic stays float32."""
    attributes = {"to": int(to)} if op_type == "Cast" else None
    new = ir.node(op_type, inputs, attributes, name=f"{node.name}/{op_type}")
    result = new.outputs[0]
    result.name = f"{node.outputs[0].name}.{op_type.lower()}"
    result.type = ir.TensorType(to if op_type == "Cast" else ir.DataType.FLOAT)
    result.shape = node.outputs[0].shape
    model.graph.insert_before(node, new)
    return result
