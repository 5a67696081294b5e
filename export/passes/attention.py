"""Write the products and the softmax of an attention as one Attention operator.

    softmax(s · q kᵀ) v  =  Attention(q, k, v, scale=s)

with q, k, v [B, H, N, D]. Where these are cut from one projection [B, N, 3 H D] by Reshape, Transpose and
Slice, and the result goes back to [B, N, H D], the operator takes and gives [B, N, H D] itself, and all that
moving of values is one Split. ONNX Runtime executes it as a whole.

Only float attention: where scores, softmax or values are quantized, the products stay as they are.

Source: Attention of ONNX operator set 23.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.passes.base import PassNote
from export.passes.values import array_of, int_attribute, only_reader, replace_value, tidy
from quant.errors import InternalError

__all__ = ["OPSET", "FuseAttention"]

OPSET = 23
"""The operator set that has Attention."""

_PACKED = [2, 0, 3, 1, 4]  # [B, N, 3, H, D] → [3, B, H, N, D]
_MERGED = [0, 2, 1, 3]  # [B, H, N, D] → [B, N, H, D]
_TURNED = [0, 1, 3, 2]


@dataclass(frozen=True)
class _Found:
    """An attention: its operands, the factor of its scores and the value it gives."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    scale: float
    result: ir.Value


class FuseAttention:
    """The pass, see the module's text."""

    name = "fuse_attention"

    def requires(self, model: ir.Model) -> None:
        """Nothing; what does not fit is left as it is, with a note."""

    def run(self, model: ir.Model) -> list[PassNote]:
        """Fuse every float attention."""
        self._outputs = [output.name for output in model.graph.outputs]
        reason = _why_not(model)
        notes = []
        for node in list(model.graph):
            if node.op_type != "Softmax":
                continue
            found = reason or _find(node)
            if isinstance(found, str):
                notes.append(PassNote(self.name, str(node.name), False, found))
                continue
            packed = _fuse(model, node, found)
            text = "one operator on the packed projection" if packed else "one operator on its heads"
            notes.append(PassNote(self.name, str(node.name), True, text))
        if any(note.applied for note in notes):
            model.graph.opset_imports[""] = max(model.graph.opset_imports[""], OPSET)
            tidy(model)
        return notes

    def ensures(self, model: ir.Model) -> None:
        """The graph's outputs kept their names, and the operator set has the operator."""
        found = [output.name for output in model.graph.outputs]
        if found != self._outputs:
            raise InternalError(f"the outputs were {self._outputs} and are {found}")
        used = any(node.op_type == "Attention" for node in model.graph)
        if used and model.graph.opset_imports[""] < OPSET:
            raise InternalError(f"Attention is used in operator set {model.graph.opset_imports['']}")


def _why_not(model: ir.Model) -> str | None:
    """Why the model cannot be raised to the operator set; other operators mean the same in 20 and in 23."""
    if model.functions:
        return f"the model has functions of its own, written in another operator set than {OPSET}"
    if model.graph.opset_imports[""] < 21 and any(n.op_type == "GroupNormalization" for n in model.graph):
        return "GroupNormalization means something else from operator set 21 on"
    return None


def _find(softmax: ir.Node) -> _Found | str:
    """The attention around a softmax, or why there is none."""
    scores, probabilities = softmax.inputs[0], softmax.outputs[0]
    assert scores is not None
    if scores.shape is None or len(scores.shape) != 4 or int_attribute(softmax, "axis", -1) not in (-1, 3):
        return "it is not a softmax over the last of four axes"
    scores, scale = _unscaled(scores)
    first, second = scores.producer(), only_reader(probabilities)
    if first is None or first.op_type != "MatMul" or only_reader(scores) is None:
        return "its scores are no plain product"
    if second is None or second.op_type != "MatMul" or second.inputs[0] is not probabilities:
        return "its probabilities are not only multiplied by values"
    query, by_query = _unscaled(first.inputs[0])
    turned, by_key = _unscaled(first.inputs[1])
    transpose = turned.producer()
    if transpose is None or transpose.op_type != "Transpose" or _permutation(transpose) != _TURNED:
        return "its keys are not transposed"
    key, before = _unscaled(transpose.inputs[0])
    value = second.inputs[1]
    assert value is not None
    if any(v.dtype not in (None, ir.DataType.FLOAT) for v in (query, key, value)):
        return "it is not computed in float32"
    if any((p := v.producer()) is not None and p.op_type == "DequantizeLinear" for v in (query, key, value)):
        return "its operands are quantized"
    return _Found(query, key, value, scale * by_query * by_key * before, second.outputs[0])


def _unscaled(value: ir.Value | None) -> tuple[ir.Value, float]:
    """What a value was before it was multiplied by constants, and their product."""
    assert value is not None
    factor = 1.0
    while (node := value.producer()) is not None and node.op_type in ("Mul", "Div") and only_reader(value):
        for position in (0, 1) if node.op_type == "Mul" else (1,):
            constant = array_of(node.inputs[position])
            if constant is not None and constant.size == 1:
                number = float(constant.item())
                factor = factor * number if node.op_type == "Mul" else factor / number
                value = node.inputs[1 - position]
                assert value is not None
                break
        else:
            break
    return value, factor


def _fuse(model: ir.Model, softmax: ir.Node, found: _Found) -> bool:
    """Put the operator in place; whether it reads the packed projection."""
    stem = str(softmax.name).rpartition("/")[0] or str(softmax.name)
    merged = _merged(found.result)
    parts = [_part(v) for v in (found.query, found.key, found.value)]
    reshape = parts[0][0] if parts[0] is not None else None
    packed = (
        merged is not None
        and reshape is not None
        and all(part is not None and part[0] is reshape and part[1] == i for i, part in enumerate(parts))
    )
    if not packed:
        node = ir.node(
            "Attention",
            [found.query, found.key, found.value],
            {"scale": found.scale},
            name=f"{stem}/Attention",
        )
        _place(model, softmax, found.result, [node])
        return False
    assert reshape is not None
    assert merged is not None
    heads = int(reshape.outputs[0].shape[3])  # type: ignore[index, arg-type]  # `_part` has checked it
    split = ir.node(
        "Split", [reshape.inputs[0]], {"axis": -1, "num_outputs": 3}, num_outputs=3, name=f"{stem}/Split"
    )
    for value, letter in zip(split.outputs, "qkv", strict=True):
        value.name, value.type, value.shape = f"{stem}/{letter}", merged.type, merged.shape
    node = ir.node(
        "Attention",
        list(split.outputs),
        {"scale": found.scale, "q_num_heads": heads, "kv_num_heads": heads},
        name=f"{stem}/Attention",
    )
    _place(model, softmax, merged, [split, node])
    return True


def _place(model: ir.Model, softmax: ir.Node, old: ir.Value, nodes: list[ir.Node]) -> None:
    new = nodes[-1].outputs[0]
    new.name, new.type, new.shape = f"{nodes[-1].name}.output", old.type, old.shape
    model.graph.insert_after(softmax, nodes)
    replace_value(old, new)


def _part(value: ir.Value) -> tuple[ir.Node, int] | None:
    """Of q, k or v the Reshape that takes the packed projection apart, and which third the value is."""
    node = value.producer()
    if node is None or only_reader(value) is None:
        return None
    if node.op_type == "Gather" and int_attribute(node, "axis", 0) == 0:
        index = array_of(node.inputs[1])
        if index is None or index.ndim:
            return None
        start, source = int(index), node.inputs[0]
    elif node.op_type == "Squeeze" and _numbers(node, 1) == [0]:
        cut = node.inputs[0].producer() if node.inputs[0] is not None else None
        if cut is None or cut.op_type != "Slice" or _numbers(cut, 3) != [0]:
            return None
        begin, end = _numbers(cut, 1), _numbers(cut, 2)
        if begin is None or end is None or end[0] - begin[0] != 1:
            return None
        start, source = begin[0], cut.inputs[0]
    else:
        return None
    transpose = source.producer() if source is not None else None
    if transpose is None or transpose.op_type != "Transpose" or _permutation(transpose) != _PACKED:
        return None
    reshape = transpose.inputs[0].producer() if transpose.inputs[0] is not None else None
    if reshape is None or reshape.op_type != "Reshape":
        return None
    given, taken = reshape.inputs[0], reshape.outputs[0]
    if given is None or given.shape is None or taken.shape is None or len(given.shape) != 3:
        return None
    whole, (_, _, three, heads, depth) = given.shape[2], taken.shape
    if three != 3 or not isinstance(heads, int) or not isinstance(depth, int) or whole != 3 * heads * depth:
        return None
    return reshape, start


def _merged(result: ir.Value) -> ir.Value | None:
    """[B, N, H D] behind a result [B, H, N, D], where its heads are put side by side at once."""
    transpose = only_reader(result)
    if transpose is None or transpose.op_type != "Transpose" or _permutation(transpose) != _MERGED:
        return None
    reshape = only_reader(transpose.outputs[0])
    heads = result.shape
    if reshape is None or reshape.op_type != "Reshape" or heads is None:
        return None
    value = reshape.outputs[0]
    if value.shape is None or len(value.shape) != 3:
        return None
    _, count, tokens, depth = heads
    if not isinstance(count, int) or not isinstance(depth, int):
        return None
    return value if value.shape[1] == tokens and value.shape[2] == count * depth else None


def _permutation(node: ir.Node) -> list[int] | None:
    return list(node.attributes["perm"].as_ints()) if "perm" in node.attributes else None


def _numbers(node: ir.Node, position: int) -> list[int] | None:
    array = array_of(node.inputs[position]) if len(node.inputs) > position else None
    return None if array is None else [int(n) for n in np.atleast_1d(array)]
