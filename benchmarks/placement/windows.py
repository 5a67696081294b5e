"""Cut a unit of layers out of the quantized model, and the same layers out of the float one.

A window begins at the float tensors that the unit reads and ends at the float tensor that it gives, so that
what quantizing, dequantizing and rearranging cost around its products is part of it. A bias that is added
apart is left out of both: runtimes fuse that addition with whatever comes next.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto

from export.parity.cut import Cut, cut_model, layer_ends
from quant.errors import InternalError
from quant.mixed.groups import Group

__all__ = ["Declined", "Window", "find_windows"]

_PRODUCTS = ("MatMul", "Gemm", "Conv")
_FREE = ("Reshape", "Transpose", "Flatten", "Relu", "Clip")
_PACKED = "MatMulNBits"


@dataclass(frozen=True, eq=False)
class Window:
    """The two forms of a unit.

    Attributes:
        unit: its name.
        quantized: cut out of the quantized model.
        plain: cut out of the float model.
    """

    unit: str
    quantized: Cut
    plain: Cut


@dataclass(frozen=True)
class Declined:
    """A unit that is not up for choice.

    Attributes:
        unit: its name.
        reason: why.
    """

    unit: str
    reason: str


def find_windows(
    units: Sequence[Group], quantized: ModelProto, plain: ModelProto
) -> tuple[list[Window], list[Declined]]:
    """Cut every unit out of both models.

    Args:
        units: of the calibrated graph.
        quantized: the lowered model, with Q/DQ pairs.
        plain: the float model for the same target.

    Returns:
        The windows, and the units that cannot be cut out or have no weights.
    """
    theirs, ours = _Graph(quantized.graph), _Graph(plain.graph)
    found: list[Window] = []
    declined: list[Declined] = []
    for unit in units:
        try:
            found.append(_window(unit, theirs, ours, quantized, plain))
        except _CannotCut as error:
            declined.append(Declined(unit.name, str(error)))
    return found, declined


class _CannotCut(Exception):
    """Why a unit is left as it is."""


def _window(
    unit: Group, theirs: "_Graph", ours: "_Graph", quantized: ModelProto, plain: ModelProto
) -> Window:
    if not unit.weights:
        raise _CannotCut("it has no weights; only layers with weights are up for choice")
    products = list(_quantized_products(unit, theirs))
    if any(node.op_type == _PACKED for _, node in products):
        raise _CannotCut(f"its weights are packed for {_PACKED}; only Q/DQ pairs are up for choice")
    names = {site.layer for site in unit.sites if site.is_weight}
    floats = [(n.input[0], n) for n in plain.graph.node if n.op_type in _PRODUCTS and _layer(n) in names]
    if {_layer(node) for _, node in floats} != names:
        missing = ", ".join(sorted(names - {_layer(node) for _, node in floats}))
        raise _CannotCut(f"the float model has no product called {missing}")
    try:
        scales = {f"{site.name}.scale" for site in unit.sites}
        return Window(
            unit.name, theirs.cut(quantized, products, scales), ours.cut(plain, floats, frozenset())
        )
    except InternalError as error:
        raise _CannotCut(str(error)) from error


def _quantized_products(unit: Group, graph: "_Graph") -> Iterator[tuple[str, NodeProto]]:
    """What each quantized product reads in float, and its node."""
    activations = {site.node: site.name for site in unit.sites if not site.is_weight}
    weights = {site.node: site.name for site in unit.sites if site.is_weight}
    for node in unit.nodes:
        reads = node.all_input_nodes
        for weight in (weights[n] for n in reads if n in weights):
            activation = next((activations[n] for n in reads if n in activations), None)
            ends = layer_ends(graph.proto, activation, weight)
            yield ends.values, graph.writer[ends.product]


def _layer(node: NodeProto) -> str:
    return str(node.name).rpartition("/")[0]


class _Graph:
    """A graph with its readers and writers."""

    def __init__(self, proto: GraphProto) -> None:
        self.proto = proto
        self.writer = {name: node for node in proto.node for name in node.output}
        self.constants = {i.name for i in proto.initializer}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in proto.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def cut(
        self, model: ModelProto, products: Sequence[tuple[str, NodeProto]], scales: Collection[str]
    ) -> Cut:
        """From what the products read to what they give; what they read of each other is inside.

        Args:
            model: the graph's.
            products: what each reads in float, and its node.
            scales: of the quantizers that belong to them.
        """
        written = {node.output[0] for _, node in products}
        inputs = [value for value, _ in products if not self._comes_from(value, written)]
        last = [node for _, node in products if not self._feeds(node, products)]
        return cut_model(model, inputs, [self._end(node, scales) for node in last])

    def _comes_from(self, name: str, wanted: set[str]) -> bool:
        return bool(self._ancestors(name) & wanted)

    def _feeds(self, node: NodeProto, products: Sequence[tuple[str, NodeProto]]) -> bool:
        return any(node.output[0] in self._ancestors(value) for value, other in products if other is not node)

    def _ancestors(self, name: str) -> set[str]:
        """The tensor and everything that it is computed from."""
        found, stack = {name}, [name]
        while stack:
            node = self.writer.get(stack.pop())
            new = [] if node is None else [n for n in node.input if n not in found]
            found.update(new)
            stack.extend(new)
        return found

    def _end(self, product: NodeProto, scales: Collection[str]) -> str:
        """Behind its own quantizer, a ReLU and what only moves it; of a product of patches, its bias."""
        name = str(product.output[0])
        while (node := self._only_reader(name)) is not None and self._goes_on(node, product, scales):
            name = str(node.output[0])
        return name

    def _goes_on(self, node: NodeProto, product: NodeProto, scales: Collection[str]) -> bool:
        if node.op_type == "Add":
            rest = [name for name in node.input if name not in product.output]
            return "Conv_patches_" in product.name and all(name in self.constants for name in rest)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return node.input[1] in scales
        return node.op_type in _FREE

    def _only_reader(self, name: str) -> NodeProto | None:
        found = self._readers.get(name, [])
        return found[0] if len(found) == 1 else None
