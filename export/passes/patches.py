"""Run a convolution that cuts its input into patches as a matrix product on integer codes.

With kernel = stride = k and no padding, patches do not overlap and

    conv(x)[b, o, i, j] = Σ_{c,u,v} W[o, c, u, v] x[b, c, i k + u, j k + v] + bias[o]

is the product of the patches [B, h, w, C k k] with Wᵀ [C k k, O]. ONNX Runtime runs an integer Conv only when
its output is quantized too, which in a transformer would be the residual stream; an integer MatMul needs no
such thing. The patches are cut from the codes, before DequantizeLinear, so that it moves bytes.
"""

import numpy as np
import onnx_ir as ir

from export.passes.base import PassNote
from export.passes.values import (
    array_of,
    int_attribute,
    is_initializer,
    only_reader,
    put_initializer,
    replace_value,
    tidy,
)
from quant.errors import InternalError

__all__ = ["PatchesToMatMul"]


class PatchesToMatMul:
    """The pass, see the module's text."""

    name = "patches_to_matmul"

    def requires(self, model: ir.Model) -> None:
        """Nothing; what does not fit is left as it is, with a note."""

    def run(self, model: ir.Model) -> list[PassNote]:
        """Rewrite every quantized patch convolution."""
        notes = []
        self._outputs = [output.name for output in model.graph.outputs]
        for node in list(model.graph):
            if node.op_type == "Conv" and _is_patch(node):
                reason = _decline(node) or _rewrite(model, node)
                text = reason or "runs as an integer matrix product on patches"
                notes.append(PassNote(self.name, str(node.name), reason is None, text))
        tidy(model)
        return notes

    def ensures(self, model: ir.Model) -> None:
        """The graph's outputs kept their names."""
        found = [output.name for output in model.graph.outputs]
        if found != self._outputs:
            raise InternalError(f"the outputs were {self._outputs} and are {found}")


def _is_patch(conv: ir.Node) -> bool:
    strides = conv.attributes.get("strides")
    weight = conv.inputs[1]
    if strides is None or weight is None or weight.shape is None:
        return False
    kernel = [int(d) for d in weight.shape[2:] if isinstance(d, int)]
    pads = conv.attributes["pads"].as_ints() if "pads" in conv.attributes else [0]
    dilations = conv.attributes["dilations"].as_ints() if "dilations" in conv.attributes else [1]
    return (
        len(kernel) == 2
        and list(strides.as_ints()) == kernel
        and max(kernel) > 1
        and not any(pads)
        and set(dilations) == {1}
        and int_attribute(conv, "group", 1) == 1
    )


def _decline(conv: ir.Node) -> str | None:
    data = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    weight = conv.inputs[1].producer() if conv.inputs[1] is not None else None
    if (
        data is None
        or data.op_type != "DequantizeLinear"
        or weight is None
        or not is_initializer(weight.inputs[0])
    ):
        return "it is not quantized"
    codes = array_of(weight.inputs[0])
    if codes is None or codes.dtype not in (np.int8, np.uint8):
        return "its codes are not integers"
    reader = only_reader(conv.outputs[0])
    if reader is not None and reader.op_type == "QuantizeLinear":
        return "its output is quantized, so it runs in integers as it is"
    shape = conv.inputs[0].shape  # type: ignore[union-attr]
    if shape is None or not all(isinstance(d, int) for d in list(shape)[1:]):
        return "the size of its input is not fixed"
    return None


def _rewrite(model: ir.Model, conv: ir.Node) -> str | None:
    data, weight = conv.inputs[0].producer(), conv.inputs[1].producer()  # type: ignore[union-attr]
    assert data is not None
    assert weight is not None
    codes, scale = array_of(weight.inputs[0]), array_of(weight.inputs[1])
    assert codes is not None
    assert scale is not None
    batch, channels, height, width = conv.inputs[0].shape  # type: ignore[union-attr, misc]
    assert isinstance(channels, int)
    assert isinstance(height, int)
    assert isinstance(width, int)
    outputs, _, kh, kw = codes.shape
    rows, columns = height // kh, width // kw
    if rows * kh != height or columns * kw != width:
        return "its input is not a whole number of patches"
    stem = str(conv.name)
    made: list[ir.Node] = []

    def call(
        op_type: str, inputs: list[ir.Value | None], shape: list[int | ir.SymbolicDim], **attributes: object
    ) -> ir.Value:
        node = ir.node(op_type, inputs, attributes or None, name=f"{stem}_patches_{op_type}_{len(made)}")  # type: ignore[arg-type]
        value = node.outputs[0]
        value.name = f"{stem}_patches_{len(made)}"
        first = inputs[0]
        assert first is not None
        value.type, value.shape = first.type, ir.Shape(shape)
        made.append(node)
        return value

    def dims(values: list[int]) -> ir.Value:
        return put_initializer(
            model, f"{stem}_shape_{'x'.join(map(str, values))}", np.array(values, np.int64)
        )

    depth = channels * kh * kw
    quantized = data.inputs[0]
    cut = call(
        "Reshape",
        [quantized, dims([-1, channels, rows, kh, columns, kw])],
        [batch, channels, rows, kh, columns, kw],
    )
    turned = call("Transpose", [cut], [batch, rows, columns, channels, kh, kw], perm=[0, 2, 4, 1, 3, 5])
    patches = call("Reshape", [turned, dims([-1, rows, columns, depth])], [batch, rows, columns, depth])
    floats = call("DequantizeLinear", [patches, *data.inputs[1:]], [batch, rows, columns, depth])
    floats.type = ir.TensorType(ir.DataType.FLOAT)
    name = str(weight.inputs[0].name)  # type: ignore[union-attr]
    flat = put_initializer(model, f"{name}.patches", codes.reshape(outputs, depth).T)
    axis = {"axis": 1} if scale.ndim else {}
    kernel = call("DequantizeLinear", [flat, *weight.inputs[1:]], [depth, outputs], **axis)
    kernel.type = ir.TensorType(ir.DataType.FLOAT)
    result = call("MatMul", [floats, kernel], [batch, rows, columns, outputs])
    if len(conv.inputs) > 2 and conv.inputs[2] is not None:
        result = call("Add", [result, conv.inputs[2]], [batch, rows, columns, outputs])
    tail = _channels_last_reader(conv)
    if tail is None:  # whatever follows wants [B, O, h, w]
        result = call("Transpose", [result], [batch, outputs, rows, columns], perm=[0, 3, 1, 2])
        replaced = conv.outputs[0]
    else:
        replaced = tail.outputs[0]
        if len(tail.attributes["perm"].as_ints()) == 3:  # tokens [B, h w, O]
            shape = dims([-1, rows * columns, outputs])
            result = call("Reshape", [result, shape], [batch, rows * columns, outputs])
    model.graph.insert_after(conv, made)
    replace_value(replaced, result)
    return None


def _channels_last_reader(conv: ir.Node) -> ir.Node | None:
    """The Transpose that brings the channels last: [B, O, h, w] → [B, h, w, O], or flattened to [B, N, O]."""
    reader = only_reader(conv.outputs[0])
    if reader is not None and reader.op_type in ("Reshape", "Flatten"):
        shape = reader.outputs[0].shape
        of_conv = conv.outputs[0].shape
        if shape is None or of_conv is None or len(shape) != 3:
            return None
        if list(shape)[1] != of_conv[1] or list(shape)[2] != of_conv[2] * of_conv[3]:
            return None
        reader = only_reader(reader.outputs[0])
    if reader is None or reader.op_type != "Transpose" or "perm" not in reader.attributes:
        return None
    return reader if list(reader.attributes["perm"].as_ints()) in ([0, 2, 3, 1], [0, 2, 1]) else None
