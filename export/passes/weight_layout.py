"""Store integer weights as their reader wants them: no Transpose behind a weight's DequantizeLinear.

DQ(W[O, I], axis 0) → Transpose → MatMul  becomes  DQ(Wᵀ[I, O], axis 1) → MatMul, with the same codes and
scales. In blocks, scales and zero points [O, I / block] are transposed along: DQ(W, axis 1) becomes
DQ(Wᵀ, axis 0).
"""

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

__all__ = ["TransposeWeights"]


class TransposeWeights:
    """The pass, see the module's text."""

    name = "transpose_weights"

    def requires(self, model: ir.Model) -> None:
        """Nothing."""

    def run(self, model: ir.Model) -> list[PassNote]:
        """Fold every Transpose that is the only reader of a constant DequantizeLinear."""
        notes = []
        for node in list(model.graph):
            reader = _transpose_behind(node)
            if reader is None:
                continue
            codes, scale = array_of(node.inputs[0]), array_of(node.inputs[1])
            assert codes is not None
            assert scale is not None
            order = reader.attributes["perm"].as_ints() if "perm" in reader.attributes else None
            permutation = list(order) if order is not None else list(range(codes.ndim))[::-1]
            name = str(node.inputs[0].name)  # type: ignore[union-attr]
            stored = codes.transpose(permutation)
            put_initializer(model, name, stored)
            if "block_size" in node.attributes:
                for value in node.inputs[1:]:
                    array = array_of(value)
                    assert array is not None
                    put_initializer(model, str(value.name), array.transpose(permutation))  # type: ignore[union-attr]
            if scale.ndim:
                axis = permutation.index(int_attribute(node, "axis", 1) % codes.ndim)
                node.attributes["axis"] = ir.AttrInt64("axis", axis)
            node.outputs[0].shape = reader.outputs[0].shape
            replace_value(reader.outputs[0], node.outputs[0])
            notes.append(PassNote(self.name, name, True, f"stored as {list(stored.shape)}"))
        tidy(model)
        return notes

    def ensures(self, model: ir.Model) -> None:
        """No DequantizeLinear with codes of its own has a Transpose as its only reader."""
        for node in model.graph:
            if _transpose_behind(node) is not None:
                raise InternalError(f"'{node.name}' is still followed by a Transpose")


def _transpose_behind(node: ir.Node) -> ir.Node | None:
    """The Transpose that alone reads a weight's DequantizeLinear, which alone reads its codes."""
    codes = node.inputs[0] if node.op_type == "DequantizeLinear" else None
    if codes is None or not is_initializer(codes) or only_reader(codes) is None:
        return None
    reader = only_reader(node.outputs[0])
    return reader if reader is not None and reader.op_type == "Transpose" else None
