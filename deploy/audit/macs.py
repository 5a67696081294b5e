"""Multiply-accumulates (MACs) of one executed node, from the shapes it ran with."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from onnx import NodeProto

from deploy.audit.graph import GraphIndex, attribute
from quant.errors import InternalError

__all__ = ["INTEGER_OPS", "MAC_OPS", "OPERANDS", "Kind", "Shaped", "Work", "is_integer", "work_of"]


class Kind(StrEnum):
    """What is multiplied."""

    LINEAR = "linear"  # activation × constant matrix
    CONV = "conv"  # activation × constant kernel
    ACTIVATION = "activation"  # activation × activation, as in attention


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one kind."""

    kind: Kind
    macs: int


class Shaped(Protocol):
    """Anything with a shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        ...


Tensors = Mapping[str, Shaped]

_MATMUL = dict.fromkeys(
    ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul", "MatMulInteger", "MatMulInteger16",
     "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits", "MatMulBnb4"), (0, 1)
) | {"QLinearMatMul": (0, 3), "QGemm": (0, 3)}  # fmt: skip
_CONV = dict.fromkeys(
    ("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "ConvTranspose"), (0, 1)
) | {"QLinearConv": (0, 3)}  # fmt: skip

OPERANDS: Mapping[str, tuple[int, int]] = {**_MATMUL, **_CONV, "Einsum": (0, 1), "QAttention": (0, 1)}
"""Operator to the positions of its two factors; the second is the weight, where there is one."""

INTEGER_OPS = frozenset(
    {"QLinearConv", "ConvInteger", "QLinearMatMul", "QGemm", "MatMulInteger", "MatMulInteger16"}
    | {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention"}
)
"""Kernels that multiply integers."""

_INT8_ACCURACY_LEVEL = 4  # MatMulNBits quantizes its activations to int8 at this accuracy_level
_TWO_BIT_BLOCKS = range(32, 129)  # with 2-bit weights only in blocks of this size (ONNX Runtime 1.31.1)


def is_integer(node: NodeProto, kind: Kind) -> bool:
    """Whether this node does work of this kind on integers.

    MatMulNBits counts where ``accuracy_level`` is 4 (it then quantizes its activations to int8); QAttention's
    projections are integer, its attention is float.
    """
    if node.op_type == "MatMulNBits":
        narrow = attribute(node, "bits", 4) == 2
        return attribute(node, "accuracy_level", 0) == _INT8_ACCURACY_LEVEL and (
            not narrow or attribute(node, "block_size", 0) in _TWO_BIT_BLOCKS
        )
    if node.op_type == "QAttention" and kind is Kind.ACTIVATION:
        return False
    return node.op_type in INTEGER_OPS


def work_of(
    node: NodeProto, graph: GraphIndex, tensors: Tensors, filter_shape: tuple[int, ...]
) -> list[Work]:
    """Count the MACs of a node that ran.

    Args:
        node: an executed node whose ``op_type`` is in `MAC_OPS`.
        graph: the executed graph.
        tensors: tensor name to anything with a shape.
        filter_shape: of a convolution, ``[C_out, C_in / groups, *kernel]`` as the model was written (a
            blocked layout may have padded the executed one); empty otherwise.

    Returns:
        One entry for each kind of work; attention operators with built-in projections have two.
    """
    op = node.op_type
    if op in _CONV:
        filter_shape = filter_shape or tensors[node.input[_CONV[op][1]]].shape
        macs = _conv(node, tensors, filter_shape)
        return [Work(_kind(node, graph, Kind.CONV), macs)]
    if op in _MATMUL:
        return [Work(_kind(node, graph, Kind.LINEAR), _matmul(node, tensors))]
    if op == "Einsum":
        return [Work(_kind(node, graph, Kind.LINEAR), _einsum(node, tensors))]
    counter = _ATTENTION.get(op)
    if counter is None:
        raise InternalError(f"{node.name}: no MAC count for {op}")
    return [w for w in counter(node, tensors) if w.macs]


def _kind(node: NodeProto, graph: GraphIndex, constant: Kind) -> Kind:
    a, b = OPERANDS[node.op_type]
    fixed = node.op_type in ("MatMulNBits", "MatMulBnb4") or any(
        graph.is_constant(node.input[i]) for i in (a, b)
    )
    return constant if fixed else Kind.ACTIVATION


def _matmul(node: NodeProto, tensors: Tensors) -> int:
    """``[…, M, K] × […, K, N]``: the output's elements times K."""
    a = tensors[node.input[0]].shape
    length = a[-2] if attribute(node, "transA", 0) else a[-1]
    return math.prod(tensors[node.output[0]].shape) * length


def _conv(node: NodeProto, tensors: Tensors, filter_shape: tuple[int, ...]) -> int:
    """Each output element (input element, when transposed) meets ``C_in / groups × kernel`` weights.

    The channel count is taken from the filter: ``N · spatial · (C_out · C_in / groups · kernel)``; for a
    transposed convolution the filter is ``[C_in, C_out / groups, *kernel]``.
    """
    if node.op_type == "ConvTranspose":
        return math.prod(tensors[node.input[0]].shape) * math.prod(filter_shape[1:])
    output = tensors[node.output[0]].shape
    channels_last = bool(attribute(node, "channels_last", 0)) or node.op_type == "NhwcFusedConv"
    spatial = output[1:-1] if channels_last else output[2:]
    return output[0] * math.prod(spatial) * math.prod(filter_shape)


def _einsum(node: NodeProto, tensors: Tensors) -> int:
    """The product of the sizes of all labels, and of the dimensions an ellipsis stands for."""
    equation = attribute(node, "equation", b"")
    text = equation.decode() if isinstance(equation, bytes) else str(equation)
    terms = text.replace(" ", "").split("->")[0].split(",")
    if len(terms) < 2:
        return 0
    sizes: dict[str, int] = {}
    shared: tuple[int, ...] = ()
    for term, name in zip(terms, node.input, strict=True):
        shape = tensors[name].shape
        before, dots, after = term.partition("...")
        sizes.update(zip(before, shape, strict=False))
        sizes.update(zip(reversed(after), reversed(shape), strict=False))
        if dots:
            hidden = shape[len(before) : len(shape) - len(after)]
            shared = hidden if math.prod(hidden) > math.prod(shared) else shared
    return math.prod(sizes.values()) * math.prod(shared)


def _scores(node: NodeProto, tensors: Tensors) -> list[Work]:
    """``Q·Kᵀ`` and ``P·V``: ``S_kv · (elements of Q + elements of the output)``."""
    query, output = tensors[node.input[0]].shape, tensors[node.output[0]].shape
    key = tensors[node.input[1]].shape if len(node.input) > 1 and node.input[1] else query
    length = key[-2] if len(query) < 5 else query[1]
    elements = math.prod(query) if len(query) < 5 else math.prod(output)
    return [Work(Kind.ACTIVATION, length * (elements + math.prod(output)))]


def _with_projection(node: NodeProto, tensors: Tensors) -> list[Work]:
    """``[B, S, D]`` by the packed ``[D, 3·H]`` weight, then attention of ``S`` by ``S`` over H twice."""
    batch, length, width = tensors[node.input[0]].shape
    columns = tensors[node.input[1]].shape[-1]
    hidden = columns // 3
    return [
        Work(Kind.LINEAR, batch * length * width * columns),
        Work(Kind.ACTIVATION, 2 * batch * length * length * hidden),
    ]


def _attention(node: NodeProto, tensors: Tensors) -> list[Work]:
    return _with_projection(node, tensors) if node.domain == "com.microsoft" else _scores(node, tensors)


_ATTENTION: Mapping[str, Callable[[NodeProto, Tensors], list[Work]]] = {
    "Attention": _attention,
    "QAttention": _with_projection,
    "MultiHeadAttention": _scores,
    "GroupQueryAttention": _scores,
}

MAC_OPS = frozenset(OPERANDS) | frozenset(_ATTENTION)
"""Operators whose MACs are counted."""
