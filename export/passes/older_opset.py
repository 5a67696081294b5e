"""Write a graph in an older operator set than it was exported in, for a runtime that reads no newer one.

Which operators changed between the two is asked of ONNX itself, so that none is forgotten: one that changed
is rewritten (:mod:`export.passes.older_forms`), or known to have only widened and checked against its older
schema, or refused.
"""

from typing import Any

import onnx
import onnx_ir as ir
from onnx.defs import OpSchema

from export.passes.base import PassNote
from export.passes.older_forms import FORMS
from export.passes.values import tidy
from quant.errors import InternalError, Unsupported

__all__ = ["OlderOpset"]

_WIDENED = frozenset(
    [
        *(
            "Cast",
            "CastLike",
            "Constant",
            "ConstantOfShape",
            "DequantizeLinear",
            "Equal",
            "Flatten",
            "Identity",
        ),
        *("IsInf", "IsNaN", "Pad", "QuantizeLinear", "Reshape", "Resize", "ScatterElements", "ScatterND"),
        *("Shape", "Size", "Squeeze", "Transpose", "Unsqueeze"),
        # bfloat16 came with 22
        *("AveragePool", "Conv", "ConvTranspose", "Cos", "Dropout", "Elu", "GlobalAveragePool"),
        *("GlobalMaxPool", "HardSigmoid", "HardSwish", "InstanceNormalization", "MaxPool", "Round", "Selu"),
        *("Sin", "Softplus", "Softsign"),
    ]
)
"""Operators whose later versions up to 23 mean the same and only take more: types, attributes, inputs."""

_NEWER_WORDS = {
    ("Pad", "mode"): ("wrap",),
    ("Resize", "coordinate_transformation_mode"): ("half_pixel_symmetric",),
    ("ScatterElements", "reduction"): ("max", "min"),
    ("ScatterND", "reduction"): ("max", "min"),
}
"""Values of attributes that came later than the attribute, after opset 17."""

_TYPES = {ir.DataType.FLOAT: "float", ir.DataType.DOUBLE: "double"}
"""Names of schemas where they are not ours in lower case."""


class OlderOpset:
    """The pass, see the module's text.

    Args:
        opset: the newest that the target reads.
    """

    name = "older_opset"

    def __init__(self, opset: int) -> None:
        self._opset = opset

    def requires(self, model: ir.Model) -> None:
        """The graph has the standard operators alone, which are those with an opset of ours."""
        if model.functions:
            names = ", ".join(sorted({key[1] for key in model.functions}))
            raise Unsupported(
                f"functions of the model's own ({names}) are not written in opset {self._opset}"
            )
        for node in model.graph:
            if node.domain:
                raise Unsupported(f"{_where(node)}: opset {self._opset} is of standard operators only")

    def run(self, model: ir.Model) -> list[PassNote]:
        """Rewrite what changed."""
        newer = model.graph.opset_imports[""]
        if newer <= self._opset:
            return []
        written = []
        for node in list(model.graph):
            since, form = FORMS.get(node.op_type, (0, None))
            reason = None
            if form is not None and self._opset < since <= newer:
                written.append(str(node.name))
                reason = form(model, node)
            if reason is None and node.graph is not None:
                reason = self._fit(node, newer)
            if reason is not None:
                raise Unsupported(
                    f"{_where(node)}: {reason}; a target that reads opset {self._opset} cannot take it"
                )
        model.graph.opset_imports[""] = self._opset
        model.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", self._opset)])
        tidy(model)
        text = f"opset {newer} written as {self._opset}, {len(written)} operators in other words"
        return [PassNote(self.name, "", True, text)]

    def ensures(self, model: ir.Model) -> None:
        """Every operator is one of the opset."""
        for node in model.graph:
            if not onnx.defs.has(node.op_type, self._opset, ""):
                raise InternalError(f"'{node.name}' is not an operator of opset {self._opset}")

    def _fit(self, node: ir.Node, newer: int) -> str | None:
        """Make a node one of the older schema; why it cannot be."""
        if not onnx.defs.has(node.op_type, self._opset, ""):
            return f"opset {self._opset} has no such operator"
        new, old = (onnx.defs.get_schema(node.op_type, opset, "") for opset in (newer, self._opset))
        if new.since_version == old.since_version:
            return None
        if node.op_type not in _WIDENED and node.op_type not in FORMS:
            return f"it means something else since opset {new.since_version}"
        return _attributes(node, new, old) or _inputs(node, old)


def _attributes(node: ir.Node, new: OpSchema, old: OpSchema) -> str | None:
    """Drop what the older schema does not know where it says nothing; why the rest is not known."""
    for name, attribute in list(node.attributes.items()):
        if name not in old.attributes:
            if attribute.value != _default(new, name):
                return f"its attribute '{name}' came after opset {old.since_version}"
            del node.attributes[name]
        elif attribute.value in _NEWER_WORDS.get((node.op_type, name), ()):
            return f"{name} '{attribute.value}' came after opset {old.since_version}"
    return None


def _default(schema: OpSchema, name: str) -> Any:
    value = onnx.helper.get_attribute_value(schema.attributes[name].default_value)
    return value.decode() if isinstance(value, bytes) else value


def _inputs(node: ir.Node, old: OpSchema) -> str | None:
    """Drop inputs that are left out at the end; which of the rest the older schema does not take."""
    while node.inputs and node.inputs[-1] is None:
        node.resize_inputs(len(node.inputs) - 1)
    if len(node.inputs) > old.max_input:
        return f"its input {old.max_input + 1} came after opset {old.since_version}"
    for value, formal in zip(node.inputs, old.inputs, strict=False):
        if value is None or value.dtype is None:
            continue
        kind = f"tensor({_TYPES.get(value.dtype, value.dtype.name.lower())})"
        if kind not in formal.types:
            return f"it takes {kind} only after opset {old.since_version}"
    return None


def _where(node: ir.Node) -> str:
    layer = str(node.name).rpartition("/")[0] or str(node.name)
    return f"'{layer}' ({node.op_type})"
