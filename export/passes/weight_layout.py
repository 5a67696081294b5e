"""Store integer weights in the layout that their reader wants: no Transpose behind a weight's DequantizeLinear.

DQ(W[O, I], axis 0) → Transpose → MatMul  becomes  DQ(Wᵀ[I, O], axis 1) → MatMul. The codes and scales are the same.
"""

import numpy as np
import onnx_ir as ir

from export.passes.base import PassNote
from export.passes.values import array_of, int_attribute, is_initializer, only_reader, put_initializer, tidy
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
            if node.op_type != "DequantizeLinear" or not is_initializer(node.inputs[0]):
                continue
            reader = only_reader(node.outputs[0])
            if reader is None or reader.op_type != "Transpose":
                continue
            codes, scale = array_of(node.inputs[0]), array_of(node.inputs[1])
            assert codes is not None
            assert scale is not None
            order = reader.attributes["perm"].as_ints() if "perm" in reader.attributes else None
            permutation = list(order) if order is not None else list(range(codes.ndim))[::-1]
            name = str(node.inputs[0].name)  # type: ignore[union-attr]
            put_initializer(model, name, codes.transpose(permutation))
            if scale.ndim:
                axis = permutation.index(int_attribute(node, "axis", 1) % codes.ndim)
                node.attributes["axis"] = ir.AttrInt64("axis", axis)
            node.outputs[0].shape = reader.outputs[0].shape
            ir.convenience.replace_all_uses_with(reader.outputs[0], node.outputs[0])
            notes.append(PassNote(self.name, name, True, f"stored as {list(np.shape(codes.T))}"))
        tidy(model)
        return notes

    def ensures(self, model: ir.Model) -> None:
        """No constant DequantizeLinear has a Transpose as its only reader."""
        for node in model.graph:
            if node.op_type == "DequantizeLinear" and is_initializer(node.inputs[0]):
                reader = only_reader(node.outputs[0])
                if reader is not None and reader.op_type == "Transpose":
                    raise InternalError(f"'{node.name}' is still followed by a Transpose")
