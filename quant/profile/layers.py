"""Find the layers and blocks that a profile compares, in a float graph and its quantized counterpart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from quant.errors import InternalError
from quant.fake_quantize import FakeQuantize, FakeQuantState
from quant.graph.nodes import NO_ROLE, SHAPE_ONLY, is_call, through
from quant.roles import RELUS, find_places

__all__ = ["Layer", "find_blocks", "find_layers", "quantizer_at"]

aten = torch.ops.aten

_SOURCES = {
    aten.layer_norm.default: "layer_norm",
    aten.gelu.default: "gelu",
    aten.softmax.int: "softmax",
}


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of the quantized graph.

    Attributes:
        name: unique.
        kind: ``linear``, ``conv``, ``patch_conv``, ``attention_qk`` or ``attention_pv``.
        operator: the node that multiplies.
        output: the node of its output, :attr:`operator` or a ReLU or the sum with a side path behind it.
        channel_axis: of its input and output.
        inner: what computes the output from :attr:`boundary`, in the order of execution: quantizers, weights,
            the operator, what a method added to it.
        boundary: the values that enter.
        modules: those nodes of :attr:`inner` in front of the operator that compute in integers what the float
            graph computes at the node of that name (an integer LayerNorm or softmax).
        source: what computes its input, see :class:`quant.profile.figures.InputProfile`.
    """

    name: str
    kind: str
    operator: fx.Node
    output: fx.Node
    channel_axis: int
    inner: tuple[fx.Node, ...]
    boundary: tuple[fx.Node, ...]
    modules: tuple[fx.Node, ...]
    source: str

    @property
    def has_weight(self) -> bool:
        """Whether it multiplies by a constant."""
        return not self.kind.startswith("attention")

    def run(
        self, graph: fx.GraphModule, known: Mapping[fx.Node, Tensor], quantize_inputs: bool
    ) -> dict[fx.Node, Tensor]:
        """Compute the layer alone.

        Args:
            graph: the quantized graph.
            known: the values of :attr:`boundary`, and of those nodes of :attr:`inner` that are known.
            quantize_inputs: False leaves out every quantizer that is not known; :attr:`modules` have to be.

        Returns:
            The value of every node of :attr:`boundary` and :attr:`inner`.
        """
        values = dict(known)
        for node in self.inner:
            if node in known:
                continue
            args: Any = fx.node.map_arg(node.args, values.__getitem__)
            if node.op == "call_function":
                assert callable(node.target)
                values[node] = node.target(*args, **fx.node.map_arg(node.kwargs, values.__getitem__))
            elif quantize_inputs:
                values[node] = graph.get_submodule(str(node.target))(*args)
            else:
                values[node] = args[0]
        return values

    @property
    def constants(self) -> list[fx.Node]:
        """Those nodes of :attr:`inner` that are the same for every image: weights, and their quantizers."""
        found: set[fx.Node] = set()
        for node in self.inner:
            if node.op == "get_attr" or (node.op == "call_module" and node.args[0] in found):
                found.add(node)
        return [node for node in self.inner if node in found]


def find_layers(reference: fx.GraphModule, quantized: fx.GraphModule) -> list[Layer]:
    """Every linear layer and convolution, and the attention products that read a quantizer.

    Args:
        reference: the float graph.
        quantized: its copy with fake-quant layers; the nodes of the reference have the same names in it.

    Returns:
        The layers in the order of execution.

    Raises:
        InternalError: a layer is not in the quantized graph.
    """
    twins = {node.name: node for node in quantized.graph.nodes}
    names = {node.name for node in reference.graph.nodes}
    order = {node: i for i, node in enumerate(quantized.graph.nodes)}
    chains: dict[fx.Node, tuple[str, str, list[fx.Node]]] = {}
    for place in find_places(reference):
        stem, _, end = place.role.partition(".")
        if end == "weight" or stem.startswith("attention"):
            (operator,) = place.readers or ()
            name = place.name.replace(".weight", "") if end == "weight" else place.layer
            chains.setdefault(operator, (name, stem, list(_tail(operator))))
    missing = [name for name, _, chain in chains.values() for node in chain if node.name not in twins]
    if missing:
        raise InternalError(f"'{missing[0]}' of the float reference is not in the quantized graph")
    outputs = {twins[chain[-1].name] for _, _, chain in chains.values()}
    layers = []
    for operator, (name, kind, chain) in chains.items():
        own = {twins[node.name] for node in chain}
        inner, boundary = _cut(twins[chain[-1].name], own, outputs)
        modules = [n for n in inner - own if n.op == "call_module" and n.name in names]
        layer = Layer(
            name=name,
            kind=kind,
            operator=twins[operator.name],
            output=twins[chain[-1].name],
            channel_axis=1 if kind in ("conv", "patch_conv") else -1,
            inner=tuple(sorted(inner, key=order.__getitem__)),
            boundary=tuple(sorted(boundary, key=order.__getitem__)),
            modules=tuple(modules),
            source=_source(operator),
        )
        if layer.has_weight or any(quantizer_at(quantized, n) is not None for n in layer.inner):
            layers.append(layer)
    return sorted(layers, key=lambda layer: order[layer.output])


def find_blocks(reference: fx.GraphModule) -> dict[str, fx.Node]:
    """The modules of a repeated kind that hold a shortcut, by name, each with the node of its output.

    A block is the innermost module with a numbered name (``blocks.7``, ``layer1.0``) around an addition of
    two activations, and every numbered neighbour of such a module.
    """
    adds = [
        place.readers[0]
        for place in find_places(reference)
        if place.role in ("residual_add.input", "conv_add.input") and place.readers
    ]
    parents = {path.rpartition(".")[0] for add in adds for path in list(_numbered(add))[-1:]}
    last: dict[str, fx.Node] = {}
    for node in reference.graph.nodes:
        if node.op == "call_function":
            for path in _numbered(node):
                if path.rpartition(".")[0] in parents:
                    last[path] = node
    return last


def quantizer_at(graph: fx.GraphModule, node: object) -> FakeQuantize | None:
    """The fake-quant layer that a node calls, if it quantizes."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        if isinstance(module, FakeQuantize) and module.state is FakeQuantState.QUANTIZING:
            return module
    return None


def _tail(operator: fx.Node) -> Iterator[fx.Node]:
    """The operator, and the ReLU and the sum with a side path behind it."""
    node = operator
    while True:
        yield node
        if len(node.users) != 1:
            return
        (user,) = node.users
        if not (is_call(user, *RELUS) or (NO_ROLE in user.meta and is_call(user, aten.add.Tensor))):
            return
        node = user


def _cut(output: fx.Node, own: set[fx.Node], outputs: set[fx.Node]) -> tuple[set[fx.Node], set[fx.Node]]:
    """The nodes that belong to a layer, and the values that enter it."""
    inner, boundary, frontier = {output}, set(), [output]
    while frontier:
        for node in frontier.pop().all_input_nodes:
            belongs = node in own or node.op in ("get_attr", "call_module") or NO_ROLE in node.meta
            if not belongs or (node in outputs and node not in own):
                boundary.add(node)
            elif node not in inner:
                inner.add(node)
                frontier.append(node)
    return inner, boundary


def _source(operator: fx.Node) -> str:
    first = operator.args[0]
    assert isinstance(first, fx.Node)
    *_, source = through(first, lambda n: is_call(n, *SHAPE_ONLY, aten.mul.Tensor))
    return _SOURCES.get(source.target, "other")  # type: ignore[call-overload,no-any-return]


def _numbered(node: fx.Node) -> Iterator[str]:
    """The modules around a node whose own name is a number, outermost first."""
    for path, _ in (node.meta.get("nn_module_stack") or {}).values():
        name = str(path).partition("@")[0]
        if name.rpartition(".")[2].isdigit():
            yield name
