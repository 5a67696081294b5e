"""The roles a tensor can play, and where they are in a captured graph.

A role is what a recipe talks about. A place is one occurrence: the value, who reads it, the layer it belongs
to.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from quant.graph.nodes import (
    NO_ROLE,
    SHAPE_ONLY,
    constant_name,
    is_call,
    layer_name,
    module_of,
    shape_of,
    through,
)

__all__ = ["ROLES", "Place", "find_places", "is_patch_conv"]

aten = torch.ops.aten

ROLES: dict[str, str] = {
    "linear.input": "what a linear layer reads",
    "linear.weight": "its weight [O, I]",
    "linear.output": "what it returns",
    "patch_conv.input": "what a convolution with kernel = stride reads (patch embedding, ConvNeXt stages)",
    "patch_conv.weight": "its weight [O, I, kh, kw]",
    "patch_conv.output": "what it returns",
    "conv.input": "what any other convolution reads",
    "conv.weight": "its weight [O, I/groups, kh, kw]",
    "conv.output": "what it returns, behind its ReLU if one follows",
    "attention_qk.input": "q and k, before their product",
    "attention_pv.input": "v, before its product with the attention weights",
    "softmax.output": "the attention weights, before their product with v",
    "conv_add.input": "both inputs of a CNN shortcut: a convolution feeds it, no LayerNorm is in the branch",
    "residual_add.input": "both inputs of any other addition of two activations (a transformer's stream)",
    "layer_norm.input": "what LayerNorm reads (a transformer's stream)",
    "softmax.input": "attention scores",
    "gelu.input": "what GELU reads",
}
"""Role to its meaning."""

_CONVS = (aten.conv2d.default,)
_ADDS = (aten.add.Tensor,)
RELUS = (aten.relu.default, aten.hardtanh.default, aten.relu6.default)


@dataclass(frozen=True)
class Place:
    """One tensor in one role.

    Attributes:
        role: a key of :data:`ROLES`.
        layer: the layer's name, ``blocks.7.mlp.fc2``.
        name: unique name, ``blocks.7.mlp.fc2.input``.
        value: the node that computes the tensor.
        readers: the nodes to be given the quantized tensor; None means all.
        channel_axis: the axis of the layer's channels, or None.
    """

    role: str
    layer: str
    name: str
    value: fx.Node
    readers: tuple[fx.Node, ...] | None
    channel_axis: int | None = None


def find_places(graph: fx.GraphModule) -> list[Place]:
    """Every place of every role, in the order of execution."""
    places: list[Place] = []
    seen: dict[str, int] = {}
    for node in graph.graph.nodes:
        for place in _places_at(node):
            count = seen[place.name] = seen.get(place.name, 0) + 1
            if count > 1:  # the same layer called again
                place = replace(place, name=f"{place.name}_{count}")
            places.append(place)
    return places


def is_patch_conv(node: fx.Node) -> bool:
    """Whether a convolution cuts its input into patches that do not overlap: kernel = stride > 1, no padding.

    It is a linear layer on patches, and can be executed as one.
    """
    arguments: list[Any] = [*node.args, *([None] * (7 - len(node.args)))]
    stride, padding, dilation, groups = arguments[3:7]
    kernel = list(shape_of(node.args[1])[2:])
    return (
        list(stride or [1, 1]) == kernel
        and max(kernel) > 1
        and not any(padding or [0])
        and list(dilation or [1, 1]) == [1, 1]
        and (groups or 1) == 1
    )


def _places_at(node: fx.Node) -> Iterator[Place]:
    if NO_ROLE in node.meta:
        return
    if is_call(node, aten.linear.default):
        yield from _layer(node, "linear", -1)
    elif is_call(node, *_CONVS):
        yield from _layer(node, "patch_conv" if is_patch_conv(node) else "conv", 1)
    elif is_call(node, aten.matmul.default, aten.bmm.default):
        role = None if any(map(constant_name, node.args[:2])) else _attention_role(node)
        if role:
            first, second = _operands(node, role, "qk" if role.startswith("attention_qk") else "pv")
            yield first if role.startswith("attention_qk") else replace(first, role="softmax.output")
            yield second
    elif is_call(node, *_ADDS) and all(len(shape_of(a)) >= 3 for a in node.args[:2]):
        same_shape = len({str(shape_of(a)) for a in node.args[:2]}) == 1  # not a mask or a position bias
        if same_shape and not any(constant_name(a) for a in node.args[:2]):
            role = "conv_add" if _is_conv_add(node) else "residual_add"
            yield from _operands(node, f"{role}.input", "add")
    elif is_call(node, aten.layer_norm.default):
        yield _single(node, "layer_norm.input")
    elif is_call(node, aten.softmax.int):
        yield _single(node, "softmax.input")
    elif is_call(node, aten.gelu.default):
        yield _single(node, "gelu.input")


def _layer(node: fx.Node, kind: str, axis: int) -> Iterator[Place]:
    weight = node.args[1]
    if constant_name(weight) is None:
        return  # a computed weight has no codes to store
    layer = layer_name(node)
    value = node.args[0]
    assert isinstance(value, fx.Node)
    assert isinstance(weight, fx.Node)
    yield Place(f"{kind}.input", layer, f"{layer}.input", value, (node,), axis)
    yield Place(f"{kind}.weight", layer, f"{layer}.weight", weight, (node,), 0)
    out = node
    if len(node.users) == 1 and is_call(next(iter(node.users)), *RELUS):
        out = next(iter(node.users))
    yield Place(f"{kind}.output", layer, f"{layer}.output", out, None, axis)


def _operands(node: fx.Node, role: str, name: str) -> Iterator[Place]:
    owner = module_of(node)
    layer = f"{owner}.{name}" if owner else f"{name}.{node.name}"
    for letter, value in zip("ab", node.args[:2], strict=True):
        assert isinstance(value, fx.Node)
        yield Place(role, layer, f"{layer}.{letter}", value, (node,))


def _single(node: fx.Node, role: str) -> Place:
    layer = module_of(node) or node.name
    value = node.args[0]
    assert isinstance(value, fx.Node)
    return Place(role, layer, f"{layer}.{role.partition('.')[0]}_input", value, (node,))


def _attention_role(node: fx.Node) -> str | None:
    """QKᵀ feeds a softmax through scaling, masking and reshaping; PV reads one."""
    first = node.args[0]
    if isinstance(first, fx.Node):
        *_, source = through(first, lambda n: is_call(n, *SHAPE_ONLY))
        if is_call(source, aten.softmax.int):
            return "attention_pv.input"
    frontier = [node]
    for _ in range(8):
        frontier = [user for n in frontier for user in n.users]
        if any(is_call(n, aten.softmax.int) for n in frontier):
            return "attention_qk.input"
        frontier = [n for n in frontier if is_call(n, *SHAPE_ONLY, *_ADDS, aten.mul.Tensor, aten.div.Tensor)]
    return None


def _is_conv_add(node: fx.Node) -> bool:
    """Whether a convolution feeds the sum, at most a ReLU between, and no LayerNorm is in the branch.

    With a LayerNorm in the branch, the other input is a transformer's stream: in ConvNeXt, too, convolutions
    feed it. The branch is what only one of the two inputs is computed from.
    """
    first, second = node.args[:2]
    assert isinstance(first, fx.Node)
    assert isinstance(second, fx.Node)
    sources = [list(through(value, lambda n: is_call(n, *RELUS)))[-1] for value in (first, second)]
    if not any(is_call(source, *_CONVS) for source in sources):
        return False
    branch = _ancestors(first) ^ _ancestors(second)
    return not any(is_call(n, aten.layer_norm.default) for n in branch)


def _ancestors(node: fx.Node) -> set[fx.Node]:
    """Everything that ``node`` is computed from, and itself."""
    found, frontier = {node}, [node]
    while frontier:
        new = [n for n in frontier.pop().all_input_nodes if n not in found]
        found.update(new)
        frontier.extend(new)
    return found
