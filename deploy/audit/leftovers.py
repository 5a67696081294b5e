"""Sort the QuantizeLinear and DequantizeLinear nodes that are left in the executed graph."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from onnx import NodeProto

from deploy.audit.execute import QUANTIZE_OPS, Executed
from deploy.audit.graph import GraphIndex, module_name
from deploy.audit.trace import origin

__all__ = ["BAD", "Category", "Leftover", "find_leftovers"]


class Category(StrEnum):
    """Why a Q or DQ node still runs."""

    FEEDS_INTEGER = "float to integer kernel"
    FROM_INTEGER = "integer kernel to float"
    MODEL_EDGE = "model input or output is quantized"
    DYNAMIC = "quantized at run time by design"
    PAIR = "Q/DQ pair around float operators"
    REQUANTIZED = "integer to float to integer, nothing between"
    WEIGHT = "weight dequantized at run time"
    BIAS = "bias dequantized at run time"
    CONSTANT = "constant quantized at run time"


BAD = frozenset({Category.PAIR, Category.REQUANTIZED, Category.WEIGHT, Category.BIAS, Category.CONSTANT})
"""Categories that cost time (and precision) for nothing."""


@dataclass(frozen=True)
class Leftover:
    """A Q or DQ node of the executed graph.

    Attributes:
        node: its name.
        op: QuantizeLinear, DequantizeLinear or DynamicQuantizeLinear.
        module: the PyTorch module it belongs to, as well as names tell.
        elements: values it converts in the run at batch 1.
        category: why it is there.
        bad: whether it is work that should not be there.
        readers: operators that read its result.
    """

    node: str
    op: str
    module: str
    elements: int
    category: Category
    bad: bool
    readers: tuple[str, ...]


def find_leftovers(executed: Executed) -> tuple[Leftover, ...]:
    """List every Q and DQ node that ONNX Runtime executes, in execution order."""
    found = []
    for node in executed.graph.graph.node:
        if node.op_type not in QUANTIZE_OPS:
            continue
        category = _CLASSIFY[node.op_type](node, executed.graph)
        readers = tuple(sorted({r.op_type for r in executed.graph.readers(node.output[0])}))
        found.append(
            Leftover(
                node=node.name,
                op=node.op_type,
                module=_module(node, executed),
                elements=math.prod(executed.tensors[node.output[0]].shape),
                category=category,
                bad=category in BAD,
                readers=readers,
            )
        )
    return tuple(found)


def _quantize(node: NodeProto, graph: GraphIndex) -> Category:
    if graph.is_constant(node.input[0]):
        return Category.CONSTANT
    readers = {r.op_type for r in graph.readers(node.output[0])}
    if not readers:
        return Category.MODEL_EDGE
    if readers <= {"DequantizeLinear"}:
        return Category.PAIR
    _, source = graph.past_layout(node.input[0])
    if source is not None and source.op_type == "DequantizeLinear" and _from_kernel(source, graph):
        return Category.REQUANTIZED
    return Category.FEEDS_INTEGER


def _dequantize(node: NodeProto, graph: GraphIndex) -> Category:
    if graph.is_constant(node.input[0]):
        stored = graph.array(node.input[0])
        return Category.BIAS if stored is not None and stored.dtype == "int32" else Category.WEIGHT
    _, source = graph.past_layout(node.input[0])
    if source is None:
        return Category.MODEL_EDGE
    if source.op_type == "QuantizeLinear":
        return Category.PAIR
    readers = {r.op_type for r in graph.readers(node.output[0])}
    return Category.REQUANTIZED if readers == {"QuantizeLinear"} else Category.FROM_INTEGER


_CLASSIFY: dict[str, Callable[[NodeProto, GraphIndex], Category]] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": lambda _node, _graph: Category.DYNAMIC,
}


def _from_kernel(dequantize: NodeProto, graph: GraphIndex) -> bool:
    return _dequantize(dequantize, graph) is Category.REQUANTIZED


def _module(node: NodeProto, executed: Executed) -> str:
    """The node's own module where its file tells one, else that of a reader, else of the producer."""
    graph, original = executed.graph, executed.original
    producer = graph.producer.get(node.input[0])
    near = [node, *graph.readers(node.output[0]), *([producer] if producer is not None else [])]
    for candidate in near:
        source = origin(candidate, graph, original)
        if source is not None:
            name = module_name(source, original)
            if name != source.name:
                return name
    return str(node.name)
