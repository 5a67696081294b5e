"""What stands around one multiplication in the model as written: its Q/DQ pairs, its bias, its readers."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from onnx import NodeProto, TensorProto

from deploy.audit.graph import GraphIndex, attribute
from deploy.audit.macs import OPERANDS, Kind

__all__ = ["Operand", "Site", "Target"]

_KEEPS_CONSTANT = frozenset({"Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten"})
_FP8 = frozenset({TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2})


class Target(StrEnum):
    """A runtime whose decisions are audited."""

    ORT_X86 = "ort-x86"
    ORT_ARM64 = "ort-arm64"


@dataclass(frozen=True)
class Operand:
    """One factor of a multiplication.

    Attributes:
        tensor: the tensor the operator reads.
        constant: whether it is a weight.
        dequantize: the DequantizeLinear it comes from, layout operators skipped; None when it is float.
        source: the first computing node upstream; None for a model input or a stored tensor.
        fp8: whether its numbers were rounded to FP8, by a Q/DQ pair or by casts.
    """

    tensor: str
    constant: bool
    dequantize: NodeProto | None
    source: NodeProto | None
    fp8: bool = False


@dataclass(frozen=True)
class Site:
    """A multiplication that runs in float, seen in the model as written.

    Attributes:
        node: the original operator.
        executed: the node that does its work.
        graph: the graph as written.
        kind: what is multiplied.
        target: the runtime.
    """

    node: NodeProto
    executed: NodeProto
    graph: GraphIndex
    kind: Kind
    target: Target

    @cached_property
    def operands(self) -> tuple[Operand, ...]:
        """The two factors; empty for attention operators, which have no integer kernel to miss."""
        positions = OPERANDS.get(self.node.op_type, ())
        return tuple(_operand(self.node.input[i], self.graph) for i in positions)

    @property
    def activations(self) -> tuple[Operand, ...]:
        """The factors that depend on the model's inputs."""
        return tuple(o for o in self.operands if not o.constant)

    @property
    def weight(self) -> Operand | None:
        """The constant factor, if there is one."""
        return next((o for o in self.operands if o.constant), None)

    @property
    def quantized(self) -> bool:
        """Whether the recipe put a Q/DQ pair on at least one factor."""
        return any(o.dequantize is not None or o.fp8 for o in self.operands)

    @property
    def fp8(self) -> bool:
        """Whether a factor was rounded to FP8."""
        return any(o.fp8 for o in self.operands)

    @property
    def readers(self) -> list[NodeProto]:
        """The nodes that read the result."""
        return self.graph.consumers(self.node.output[0])

    @property
    def output_quantized(self) -> bool:
        """Whether the result goes straight into a QuantizeLinear."""
        return any(r.op_type == "QuantizeLinear" for r in self.readers)

    def bias_is_float(self) -> bool:
        """Whether the operator's own bias input is a float tensor."""
        if len(self.node.input) < 3 or not self.node.input[2]:
            return False
        source = self.graph.producer.get(self.node.input[2])
        return source is None or source.op_type != "DequantizeLinear"

    def element_type(self, node: NodeProto) -> int:
        """The integer type (`onnx.TensorProto`) a Q node writes or a DQ node reads; 0 if not told."""
        stored = self.graph.initializers.get(node.input[0])
        if stored is not None:
            return int(stored.data_type)
        return self._zero_point_type(node) or self._producer_type(node)

    def executed_type(self, node: NodeProto) -> int:
        """Like `element_type`, after QDQS8ToU8Transformer: on x86, int8 with one reader is uint8."""
        kind = self.element_type(node)
        if kind != TensorProto.INT8 or self.target is not Target.ORT_X86:
            return kind
        quantize = node if node.op_type == "QuantizeLinear" else self.graph.producer.get(node.input[0])
        private = (
            quantize is not None and quantize.op_type == "QuantizeLinear" and self.pair_readers(quantize) == 1
        )
        return int(TensorProto.UINT8) if private else kind

    def pair_readers(self, quantize: NodeProto) -> int:
        """How many nodes read a Q/DQ pair; the model's outputs count."""
        pairs = self.graph.consumers(quantize.output[0])
        behind = [len(list(self.graph.readers(p.output[0]))) + (p.output[0] in self.graph.outputs)
                  if p.op_type == "DequantizeLinear" else 1 for p in pairs]  # fmt: skip
        return sum(behind) + (quantize.output[0] in self.graph.outputs)

    def scale(self, node: NodeProto) -> np.ndarray | None:
        """The scale of a Q or DQ node; None when it is computed at run time."""
        return self.graph.array(node.input[1])

    def _zero_point_type(self, node: NodeProto) -> int:
        stored = self.graph.initializers.get(node.input[2]) if len(node.input) > 2 else None
        return 0 if stored is None else int(stored.data_type)

    def _producer_type(self, node: NodeProto) -> int:
        quantize = node if node.op_type == "QuantizeLinear" else self.graph.producer.get(node.input[0])
        if quantize is None or quantize.op_type != "QuantizeLinear":
            return 0
        return self._zero_point_type(quantize) or int(TensorProto.UINT8)  # the specification's default


def _operand(tensor: str, graph: GraphIndex) -> Operand:
    if graph.is_constant(tensor):
        name, source = tensor, graph.producer.get(tensor)
        while source is not None and source.op_type in _KEEPS_CONSTANT:
            name = source.input[0]
            source = graph.producer.get(name)
        constant = True
    else:
        name, source = graph.past_layout(tensor)
        constant = False
    dequantize = source if source is not None and source.op_type == "DequantizeLinear" else None
    return Operand(tensor, constant, dequantize, source, fp8=_is_fp8(source, graph))


def _is_fp8(source: NodeProto | None, graph: GraphIndex) -> bool:
    """Whether a node turns FP8 into floats: DequantizeLinear of such codes, or ``Cast(codes) · scale``."""
    if source is None or source.op_type not in ("DequantizeLinear", "Mul"):
        return False
    codes = source.input[0]
    widened = graph.producer.get(codes)
    if source.op_type == "Mul":
        if widened is None or widened.op_type != "Cast":
            return False
        codes = widened.input[0]
    stored, maker = graph.initializers.get(codes), graph.producer.get(codes)
    if stored is not None:
        return int(stored.data_type) in _FP8
    if maker is not None and maker.op_type == "QuantizeLinear" and len(maker.input) > 2:
        zero = graph.initializers.get(maker.input[2])
        return zero is not None and int(zero.data_type) in _FP8
    return maker is not None and maker.op_type == "Cast" and attribute(maker, "to") in _FP8
