"""The model with its roundings taken out: codes go in where it rounds, and what it would round comes out.

End to end, two correct runtimes do not agree to float accuracy: where a value lies on the edge between two
codes, the last bit of a sum decides, and a whole step spreads through all later layers. Fed the same codes,
every part in between must agree, and the parts together are the whole model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from benchmarks.arm64.compare import relative
from deploy.runner import Array
from export.parity.cut import cut_model

__all__ = ["Held", "Roundings", "compare_held", "hold"]

_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
_ACTIVATIONS = frozenset({"Relu", "Clip"})
_EIGHT_BIT = (TensorProto.INT8, TensorProto.UINT8)


@dataclass(frozen=True)
class _Rounding:
    values: str
    codes: str
    scale: float
    zero: int
    low: int
    high: int

    def quantized(self, values: Array) -> Array:
        """As ONNX defines QuantizeLinear: to the nearest, ties to even, saturating."""
        rounded = np.rint(values.astype(np.float32) / np.float32(self.scale)) + self.zero
        return np.asarray(np.clip(rounded, self.low, self.high))


@dataclass(frozen=True, eq=False)
class Held:
    """The model with its roundings taken out.

    Attributes:
        model: reads codes (and the model's own input where that is still needed), gives what is rounded to
            them, and the model's own outputs.
        whole: the model as it was, with the codes as outputs besides: they are made by this.
        codes: names of the codes.
        own: names of the model's own inputs that it still reads.
        outputs: names of what it gives; the model's own come last.
    """

    model: ModelProto
    whole: ModelProto
    codes: tuple[str, ...]
    own: tuple[str, ...]
    outputs: tuple[str, ...]
    roundings: tuple[_Rounding, ...]


@dataclass(frozen=True)
class Roundings:
    """What two runtimes made of the same codes.

    Attributes:
        places: places where the model rounds, and its outputs.
        worst: largest relative difference at any of them.
        where: at which; the tensor's name.
        logits: the model's own outputs' relative difference.
        codes: codes that are rounded.
        flipped: and how many of them come out different.
    """

    places: int
    worst: float
    where: str
    logits: float
    codes: int
    flipped: int


def hold(model: ModelProto) -> Held:
    """Take out every QuantizeLinear to 8 bits but those that end an integer kernel (``Conv → Relu → Q``).

    Args:
        model: a lowered model; left as it is.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    producer = {name: node for node in graph.node for name in node.output}
    found = [
        rounding
        for node in graph.node
        if node.op_type == "QuantizeLinear" and not _ends_kernel(node, producer)
        if (rounding := _rounding(node, stored)) is not None
    ]
    own_inputs = [value.name for value in graph.input if value.name not in stored]
    own_outputs = [value.name for value in graph.output]
    codes = tuple(one.codes for one in found)
    outputs = (*dict.fromkeys(one.values for one in found if one.values not in own_inputs), *own_outputs)
    whole = cut_model(model, own_inputs, [*codes, *own_outputs]).model
    cut = cut_model(model, [*codes, *own_inputs], outputs).model
    read = {name for node in cut.graph.node for name in node.input}
    used = [value for value in cut.graph.input if value.name in read]
    del cut.graph.input[:]
    cut.graph.input.extend(used)
    fed = tuple(name for name in codes if name in read)
    own = tuple(name for name in own_inputs if name in read)
    return Held(cut, whole, fed, own, tuple(dict.fromkeys(outputs)), tuple(found))


def compare_held(held: Held, values: Mapping[str, Array], reference: Mapping[str, Array]) -> Roundings:
    """Compare what two runtimes computed from the same codes.

    Args:
        held: the model that both ran.
        values: output name to array.
        reference: the same of the other runtime.
    """
    far = {name: relative(values[name], reference[name]) for name in held.outputs}
    where = max(far, key=lambda name: far[name])
    codes = flipped = 0
    for one in (one for one in held.roundings if one.values in far):
        differ = one.quantized(values[one.values]) != one.quantized(reference[one.values])
        codes, flipped = codes + differ.size, flipped + int(differ.sum())
    rounded = {one.values for one in held.roundings}
    logits = max(far[name] for name in held.outputs if name not in rounded)
    return Roundings(len(far), far[where], where, logits, codes, flipped)


def _ends_kernel(quantize: NodeProto, producer: Mapping[str, NodeProto]) -> bool:
    node = producer.get(quantize.input[0])
    while node is not None and node.op_type in _ACTIVATIONS:
        node = producer.get(node.input[0])
    return node is not None and node.op_type in _PRODUCTS


def _rounding(node: NodeProto, stored: Mapping[str, TensorProto]) -> _Rounding | None:
    """None where its scale is not one number, or its codes have not 8 bits."""
    scale, zero = (stored.get(name) for name in (*node.input[1:3], "")[:2])
    if scale is None or zero is None or zero.data_type not in _EIGHT_BIT:
        return None
    numbers = numpy_helper.to_array(scale)
    limits = np.iinfo(numpy_helper.to_array(zero).dtype)
    if numbers.size != 1 or node.input[0] in stored:
        return None
    return _Rounding(
        values=node.input[0],
        codes=node.output[0],
        scale=float(numbers.reshape(())),
        zero=int(numpy_helper.to_array(zero).reshape(())),
        low=int(limits.min),
        high=int(limits.max),
    )
