"""Write the bias of an integer Gemm as int32, and its weight's zero point, so that it runs as QGemm.

ONNX Runtime fuses DQ, DQ → Gemm without an output Q only when the bias is absent or comes from an int32
DequantizeLinear with

    scale_bias = scale_input · scale_weight (per output channel), zero point 0,  codes = round(bias / scale_bias)

which adds to the integer sum as it is. The same holds for MatMul + Add with static shapes, which ONNX Runtime
turns into Gemm before it looks for integers.
"""

import numpy as np
import onnx_ir as ir

from export.passes.base import PassNote
from export.passes.values import array_of, is_initializer, put_initializer, tidy
from quant.errors import InternalError

__all__ = ["IntegerBias"]

INT32 = 2**31 - 1


class IntegerBias:
    """The pass, see the module's text."""

    name = "integer_bias"

    def requires(self, model: ir.Model) -> None:
        """Nothing."""

    def run(self, model: ir.Model) -> list[PassNote]:
        """Rewrite the bias of every Gemm whose two factors are dequantized."""
        notes = []
        for node in list(model.graph):
            if node.op_type == "Gemm":
                reason = _rewrite(model, node)
                text = reason or "bias written as int32"
                notes.append(PassNote(self.name, str(node.name), reason is None, text))
        tidy(model)
        return notes

    def ensures(self, model: ir.Model) -> None:
        """Every int32 DequantizeLinear has zero point 0 (left out) and a positive scale."""
        for node in model.graph:
            codes = array_of(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
            if codes is not None and codes.dtype == np.int32:
                scale = array_of(node.inputs[1])
                if len(node.inputs) > 2 or scale is None or not bool((scale > 0).all()):
                    raise InternalError(f"'{node.name}' is not a valid int32 bias")


def _rewrite(model: ir.Model, gemm: ir.Node) -> str | None:
    data, weight = (_dequantizer(value) for value in gemm.inputs[:2])
    if data is None or weight is None:
        return "its factors are not both quantized"
    input_scale, weight_scale = array_of(data.inputs[1]), array_of(weight.inputs[1])
    if input_scale is None or weight_scale is None or input_scale.size != 1:
        return "a scale is computed, or the input has several"
    _name_zero_point(model, weight)
    bias_value = gemm.inputs[2] if len(gemm.inputs) > 2 else None
    if bias_value is None:
        return "it has no bias"
    bias = array_of(bias_value)
    if bias is None:
        return "its bias is computed"
    scale = (input_scale.astype(np.float64) * weight_scale.astype(np.float64)).astype(np.float32)  # [O] or []
    codes = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    if np.abs(codes).max() > INT32:
        return "a bias does not fit int32 at the product of its scales"
    stem = str(bias_value.name)
    values = [
        put_initializer(model, f"{stem}.codes", codes.astype(np.int32)),
        put_initializer(model, f"{stem}.scale", scale),
    ]
    attributes = {"axis": 0} if scale.ndim else {}
    new = ir.node("DequantizeLinear", values, attributes, name=f"{gemm.name}_bias/DequantizeLinear")
    new.outputs[0].name = f"{stem}.dequantized"
    new.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    new.outputs[0].shape = ir.Shape(bias.shape)
    model.graph.insert_before(gemm, new)
    gemm.replace_input_with(2, new.outputs[0])
    return None


def _name_zero_point(model: ir.Model, weight: ir.Node) -> None:
    """Write the weight's zero point of 0: ONNX Runtime 1.31 runs a Gemm in integers only if it is named."""
    scale, codes = array_of(weight.inputs[1]), array_of(weight.inputs[0])
    if len(weight.inputs) == 2 and scale is not None and codes is not None:
        stem = str(weight.inputs[1].name).removesuffix(".scale")  # type: ignore[union-attr]
        zeros = put_initializer(model, f"{stem}.zero_point", np.zeros(scale.shape, dtype=codes.dtype))
        weight.resize_inputs(3)
        weight.replace_input_with(2, zeros)


def _dequantizer(value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    source = node.inputs[0]
    inner = None if source is None else source.producer()
    quantized = is_initializer(source) or (inner is not None and inner.op_type == "QuantizeLinear")
    return node if quantized else None
