"""Write the bias of an integer Gemm as int32, and its weight's zero point, so that it runs as QGemm.

ONNX Runtime fuses DQ, DQ → Gemm without an output Q only when the bias is absent or comes from an int32
DequantizeLinear with zero point 0 and, for each output channel,

    scale_bias = scale_input · scale_weight,   codes = round(bias / scale_bias)

which adds to the integer sum as it is. The same holds for MatMul + Add with static shapes, which ONNX Runtime
(MatMulAddFusion) turns into Gemm before it looks for integers. With a dynamic batch it does not, and the
float bias stays the faster one.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.passes.base import PassNote
from export.passes.values import array_of, int_attribute, is_initializer, only_reader, put_initializer, tidy
from quant.errors import InternalError

__all__ = ["IntegerBias"]

INT32 = 2**31 - 1


class IntegerBias:
    """The pass, see the module's text."""

    name = "integer_bias"

    def requires(self, model: ir.Model) -> None:
        """Nothing."""

    def run(self, model: ir.Model) -> list[PassNote]:
        """Rewrite the bias of every Gemm and static MatMul + Add whose two factors are dequantized."""
        notes = []
        for node in list(model.graph):
            reason: str | None
            if node.op_type == "Gemm":
                reason = _rewrite(model, node, node, 2)
            elif (found := _bias_of_static_product(node)) is not None:
                reason = _rewrite(model, node, *found)
            else:
                continue
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
                if len(node.inputs) > 2 or scale is None or not bool((scale.astype(np.float64) > 0).all()):
                    raise InternalError(f"'{node.name}' is not a valid int32 bias")


def _bias_of_static_product(node: ir.Node) -> tuple[ir.Node, int] | None:
    """The Add behind a quantized MatMul of fixed shape, and which of its inputs is the constant bias."""
    if node.op_type != "MatMul" or _dequantizer(node.inputs[1]) is None:
        return None
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    add = only_reader(node.outputs[0])
    if shape is None or not shape.is_static() or add is None or add.op_type != "Add":
        return None
    index = 1 if add.inputs[0] is node.outputs[0] else 0
    return (add, index) if is_initializer(add.inputs[index]) else None


def _rewrite(model: ir.Model, product: ir.Node, reader: ir.Node, index: int) -> str | None:
    """Replace input ``index`` of ``reader``, the bias of ``product``; a reason where it stays."""
    data, weight = (_dequantizer(value) for value in product.inputs[:2])
    if data is None or weight is None:
        return "its factors are not both quantized"
    codes = array_of(weight.inputs[0])
    if codes is None or codes.dtype not in (np.int8, np.uint8) or "block_size" in weight.attributes:
        return "its weight is not in 8-bit integers, one scale per channel"
    input_scale, weight_scale = array_of(data.inputs[1]), array_of(weight.inputs[1])
    if input_scale is None or weight_scale is None or input_scale.size != 1:
        return "a scale is computed, or the input has several"
    _name_zero_point(model, weight)
    bias_value = reader.inputs[index] if len(reader.inputs) > index else None
    if bias_value is None:
        return "it has no bias"
    bias = array_of(bias_value)
    if bias is None:
        return "its bias is computed"
    channels = 0 if int_attribute(product, "transB", 0) else 1
    if weight_scale.size > 1 and int_attribute(weight, "axis", 1) % 2 != channels:
        return "its weight has no scale per output channel"
    if bias.ndim != 1 or weight_scale.size not in (1, bias.size):
        return "its bias is not one number per output channel"
    scale = _product(input_scale, weight_scale)
    codes = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    if np.abs(codes).max() > INT32:
        return "a bias does not fit int32 at the product of its scales"
    stem = f"{product.name}_bias"  # not the bias's name: layers with equal biases share one initializer
    values = [
        put_initializer(model, f"{stem}.codes", codes.astype(np.int32)),
        put_initializer(model, f"{stem}.scale", scale),
    ]
    new = ir.node(
        "DequantizeLinear", values, {"axis": 0} if scale.ndim else {}, name=f"{stem}_DequantizeLinear"
    )
    new.outputs[0].name = f"{stem}.dequantized"
    new.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    new.outputs[0].shape = ir.Shape(bias.shape)
    model.graph.insert_before(reader, new)
    reader.replace_input_with(index, new.outputs[0])
    return None


def _product(input_scale: NDArray[np.generic], weight_scale: NDArray[np.generic]) -> NDArray[np.float32]:
    """``scale_bias``, [O] or []."""
    weight = weight_scale if weight_scale.size > 1 else weight_scale.reshape(())
    return np.asarray(input_scale.reshape(()).astype(np.float64) * weight.astype(np.float64), np.float32)


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
    while inner is not None and inner.op_type in ("Reshape", "Transpose") and inner.inputs[0] is not None:
        inner = inner.inputs[0].producer()
    quantized = is_initializer(source) or (inner is not None and inner.op_type == "QuantizeLinear")
    return node if quantized else None
