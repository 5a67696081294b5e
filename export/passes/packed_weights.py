"""Run weight-only products as com.microsoft MatMulNBits, with the precision of their activations written out.

ONNX Runtime turns DequantizeLinear → MatMul with constant codes into MatMulNBits by itself, and then
quantizes the activations to int8 for each row and block as it goes
(``session.qdq_matmulnbits_accuracy_level``, 4 by default): a model called W4A16 computes W4A8. Which
DequantizeLinear it finds depends on layout, type and block size. Written into the file, the operator computes
the same in every session, whatever its options::

    y = x @ Wᵀ + bias,   W[n, k] = (code[n, k] − zero_point[n, k / block]) · scale[n, k / block]

Codes are unsigned there, packed along k with the first in the lowest bits; without zero points they are
centred on 2^(bits − 1). One scale per channel becomes one per block. ``accuracy_level`` 1 multiplies in
float32, 4 in int8.

Source: ONNX Runtime, ContribOperators.md (MatMulNBits); behaviour of 1.31.1, shown by
``tests/export/passes/test_packed_weights.py``.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.passes.base import PassNote
from export.passes.values import array_of, int_attribute, is_initializer, put_initializer, replace_value, tidy
from quant.errors import InternalError

__all__ = ["PackedWeights", "pack"]

FLOAT32_LEVEL, INT8_LEVEL = 1, 4
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 256
"""What the kernel takes, powers of two; 512 is refused when the session is built."""
DOMAIN = "com.microsoft"
_BITS = {"int4": 4, "uint4": 4, "int8": 8, "uint8": 8}


class PackedWeights:
    """The pass, see the module's text."""

    name = "packed_weights"

    def __init__(self, integer_activations: bool = False) -> None:
        """Choose how the activations of weight-only layers are multiplied.

        Args:
            integer_activations: in int8, quantized on the fly; otherwise in float32. Activations that have
                Q/DQ pairs of their own are multiplied in float32 in any case: they are rounded already.
        """
        self._level = INT8_LEVEL if integer_activations else FLOAT32_LEVEL

    def requires(self, model: ir.Model) -> None:
        """Nothing; what the operator cannot express is left as it is, with a note."""

    def run(self, model: ir.Model) -> list[PassNote]:
        """Replace every MatMul and Gemm that reads stored codes and float activations, or codes in groups."""
        notes = []
        for node in list(model.graph):
            found = _find(node)
            if isinstance(found, str):
                notes.append(PassNote(self.name, str(node.name), False, found))
            elif found is not None:
                level = FLOAT32_LEVEL if found.quantized_input else self._level
                _replace(model, node, found, level)
                how = "int8" if level == INT8_LEVEL else "float32"
                text = f"{found.bits}-bit weights in blocks of {found.block}, multiplied in {how}"
                notes.append(PassNote(self.name, str(node.name), True, text))
        if any(note.applied for note in notes):
            model.graph.opset_imports[DOMAIN] = 1
        tidy(model)
        return notes

    def ensures(self, model: ir.Model) -> None:
        """Codes, scales and zero points have the sizes that the operator defines."""
        for node in model.graph:
            if node.op_type != "MatMulNBits":
                continue
            rows, depth, bits, block = (int_attribute(node, a, 0) for a in ("N", "K", "bits", "block_size"))
            blocks = -(-depth // block)
            wanted = [(rows, blocks, block * bits // 8), (rows, blocks), (rows, -(-blocks * bits // 8))]
            for value, shape in zip(node.inputs[1:4], wanted, strict=False):
                array = array_of(value)
                if value is not None and (array is None or array.shape != shape):
                    raise InternalError(f"'{value.name}' of '{node.name}' does not have the shape {shape}")


@dataclass(frozen=True, eq=False)
class _Product:
    """A product to be packed.

    Attributes:
        codes: [N, K], unsigned, int64.
        scale: [N, blocks].
        zero_point: [N, blocks].
        bits: width of a code, 4 or 8.
        block: codes per scale.
        bias: input of a Gemm.
        quantized_input: whether the activations have a Q/DQ pair.
        stem: the weight's site.
    """

    codes: NDArray[np.int64]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    bits: int
    block: int
    bias: ir.Value | None
    quantized_input: bool
    stem: str


def _find(node: ir.Node) -> _Product | str | None:
    """What a MatMul or Gemm multiplies by; a reason where it stays; None where it is not meant."""
    weight = node.inputs[1].producer() if node.op_type in ("MatMul", "Gemm") and node.inputs[1] else None
    if weight is None or weight.op_type != "DequantizeLinear" or not is_initializer(weight.inputs[0]):
        return None
    codes, scale = array_of(weight.inputs[0]), array_of(weight.inputs[1])
    zero = array_of(weight.inputs[2]) if len(weight.inputs) > 2 else None
    bits = _BITS.get(str(codes.dtype)) if codes is not None else None
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    quantized_input = source is not None and source.op_type == "DequantizeLinear"
    grouped = "block_size" in weight.attributes
    if codes is None or scale is None or bits is None or (quantized_input and not grouped):
        return None
    if codes.ndim != 2 or int_attribute(node, "transA", 0) or not _plain_gemm(node):
        return "it is not a plain product with a matrix"
    by_rows = bool(int_attribute(node, "transB", 0))  # [N, K], which everything becomes below
    axis, inner = int_attribute(weight, "axis", 1) % 2, 1 if by_rows else 0
    if (axis != inner) if grouped else (scale.ndim > 0 and axis == inner):
        return "its scales do not go along the inner axis"
    zeros = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64)
    if not by_rows:
        codes, scale, zeros = codes.T, scale.T, zeros.T
    rows, depth = codes.shape
    group = int_attribute(weight, "block_size", depth)
    block = math.gcd(group, LARGEST_BLOCK)  # the largest power of two that divides the group
    if block < SMALLEST_BLOCK and grouped:
        return f"groups of {group} cannot be cut into blocks of at least {SMALLEST_BLOCK}"
    block = block if block >= SMALLEST_BLOCK else 2 * SMALLEST_BLOCK  # the last block is filled up
    offset = 0 if str(codes.dtype).startswith("u") else 1 << (bits - 1)
    zero_point = _per_block(zeros + offset, rows, depth, block, group).astype(np.int64)
    return _Product(
        codes=codes.astype(np.int64) + offset,
        scale=_per_block(scale, rows, depth, block, group).astype(np.float32),
        zero_point=zero_point,
        bits=bits,
        block=block,
        bias=node.inputs[2] if len(node.inputs) > 2 else None,
        quantized_input=quantized_input,
        stem=str(weight.inputs[1].name).removesuffix(".scale"),  # type: ignore[union-attr]
    )


def _plain_gemm(node: ir.Node) -> bool:
    factors = [node.attributes[a].as_float() for a in ("alpha", "beta") if a in node.attributes]
    return all(factor == 1.0 for factor in factors)


def _per_block(
    array: NDArray[np.generic], rows: int, depth: int, block: int, group: int
) -> NDArray[np.generic]:
    """Scales [N, K / group], [N] or [] as [N, ceil(K / block)]; no block reaches into the next group."""
    columns = array if array.ndim == 2 else np.broadcast_to(array.reshape(-1, 1), (rows, 1))
    return np.repeat(columns, -(-group // block), axis=1)[:, : -(-depth // block)]


def _replace(model: ir.Model, node: ir.Node, product: _Product, level: int) -> None:
    rows, depth = product.codes.shape
    blocks, bits = product.scale.shape[1], product.bits
    filler = np.repeat(product.zero_point[:, -1:], blocks * product.block - depth, axis=1)  # zeros
    codes = np.concatenate([product.codes, filler], axis=1).reshape(rows, blocks, product.block)
    centred = bool((product.zero_point == 1 << (bits - 1)).all())
    inputs = [
        node.inputs[0],
        put_initializer(model, f"{product.stem}.packed", pack(codes, bits)),
        put_initializer(model, f"{product.stem}.scale", product.scale),
        None
        if centred
        else put_initializer(model, f"{product.stem}.zero_point", pack(product.zero_point, bits)),
        None,
        product.bias,
    ]
    while inputs[-1] is None:
        inputs.pop()
    sizes = {"K": depth, "N": rows, "bits": bits, "block_size": product.block, "accuracy_level": level}
    new = ir.node("MatMulNBits", inputs, sizes, domain=DOMAIN, name=str(node.name))
    old = node.outputs[0]
    new.outputs[0].name = f"{node.name}.result"
    new.outputs[0].type, new.outputs[0].shape = old.type, old.shape
    model.graph.insert_after(node, new)
    replace_value(old, new.outputs[0])
    model.graph.remove(node, safe=True)


def pack(codes: NDArray[np.int64], bits: int) -> NDArray[np.uint8]:
    """Unsigned codes as bytes along the last axis, the first code in the lowest bits.

    Args:
        codes: [..., n], 0 to 2^bits − 1.
        bits: 4 or 8.

    Returns:
        [..., ceil(n · bits / 8)].
    """
    per_byte = 8 // bits
    padding = [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % per_byte)]
    parts = np.pad(codes.astype(np.uint8), padding).reshape(*codes.shape[:-1], -1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    return np.asarray(np.bitwise_or.reduce(parts << shifts, axis=-1), dtype=np.uint8)
