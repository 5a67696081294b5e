"""Count the multiply-accumulates and the elements of every layer of a captured graph, for one image."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from torch import fx

from quant.errors import Unsupported
from quant.graph.nodes import constant_name, is_call, module_of, shape_of
from quant.roles import find_places

__all__ = ["LayerCount", "LayerKind", "take_census"]

aten = torch.ops.aten


class LayerKind(StrEnum):
    """What a layer multiplies; the first five are the stems of roles in :data:`quant.roles.ROLES`."""

    LINEAR = "linear"
    PATCH_CONV = "patch_conv"
    CONV = "conv"
    ATTENTION_QK = "attention_qk"
    ATTENTION_PV = "attention_pv"
    OTHER = "other"
    """A product that no role addresses, so that it stays float: a weight that is computed, a side path."""


@dataclass(frozen=True)
class LayerCount:
    """One layer's work on one image.

    Attributes:
        name: the layer's name, as :func:`quant.roles.find_places` gives it.
        kind: what is multiplied.
        macs: multiply-accumulates.
        weights: elements of the constant operand; 0 where both are computed. Biases are not counted.
        inputs: elements of the computed operand, of the first one where both are (q, attention weights).
        outputs: elements of the result.
        second_inputs: elements of the second computed operand (k, v); 0 where there is a weight.
    """

    name: str
    kind: LayerKind
    macs: int
    weights: int
    inputs: int
    outputs: int
    second_inputs: int = 0


@dataclass(frozen=True)
class _Product:
    """Which arguments are multiplied, and the MACs from the sizes of the first, the second and the result."""

    operands: tuple[int, int]
    macs: Callable[[list[int], list[int], list[int]], int]


_MATMUL = _Product((0, 1), lambda a, _b, y: math.prod(y) * a[-1])  # [..., M, K] x [..., K, N]
_ADDED_MATMUL = replace(_MATMUL, operands=(1, 2))
_LINEAR = _Product((0, 1), lambda _x, w, y: math.prod(y) * w[-1])  # [..., I] x [O, I]
_CONV = _Product((0, 1), lambda _x, w, y: math.prod(y) * math.prod(w[1:]))  # w [O, I / g, *kernel]
_TRANSPOSED = _Product((0, 1), lambda x, w, _y: math.prod(x) * math.prod(w[1:]))  # w [I, O / g, *kernel]

_PRODUCTS: Mapping[Any, _Product] = {
    aten.linear.default: _LINEAR,
    aten.conv1d.default: _CONV,
    aten.conv2d.default: _CONV,
    aten.conv2d.padding: _CONV,
    aten.conv3d.default: _CONV,
    aten.conv_transpose2d.input: _TRANSPOSED,
    aten.matmul.default: _MATMUL,
    aten.mm.default: _MATMUL,
    aten.bmm.default: _MATMUL,
    aten.addmm.default: _ADDED_MATMUL,
    aten.baddbmm.default: _ADDED_MATMUL,
}

_UNKNOWN = (
    aten.einsum.default,
    aten.bilinear.default,
    aten.convolution.default,
    aten.scaled_dot_product_attention.default,
)


def take_census(graph: fx.GraphModule) -> tuple[LayerCount, ...]:
    """Count every layer and every product, in the order of execution.

    A layer that is called several times is one entry: its MACs, inputs and outputs add up, its weights count
    once. A symbolic batch counts as 1, and counts taken with a static batch are divided by it. What is not a
    product (softmax, LayerNorm, GELU, additions) is left out.

    Args:
        graph: a captured graph without fake-quant layers.

    Raises:
        Unsupported: the graph holds a product whose MACs are not known here; the message names its layer.
    """
    kinds = {f"{kind}.input": kind for kind in LayerKind}
    addressed = {
        reader: (place.layer, kinds[place.role])
        for place in find_places(graph)
        if place.role in kinds
        for reader in place.readers or ()
    }
    (images,) = (_sizes(n)[0] for n in graph.graph.nodes if n.op == "placeholder")
    counts: dict[str, LayerCount] = {}
    for node in graph.graph.nodes:
        if is_call(node, *_UNKNOWN):
            name = module_of(node) or node.name
            raise Unsupported(f"'{name}': the multiply-accumulates of {node.target} are not known")
        if not is_call(node, *_PRODUCTS):
            continue
        name, kind = addressed.get(node) or (_other_name(node), LayerKind.OTHER)
        new = _count(node, name, kind, images)
        old = counts.get(name)
        counts[name] = new if old is None else _merged(old, new)
    return tuple(counts.values())


def _count(node: fx.Node, name: str, kind: LayerKind, images: int) -> LayerCount:
    product = _PRODUCTS[node.target]
    operands = [node.args[i] for i in product.operands]
    first, second = (_sizes(operand) for operand in operands)
    result = _sizes(node)
    constants = [math.prod(_sizes(o)) for o in operands if constant_name(o) is not None]
    computed = [math.prod(_sizes(o)) // images for o in operands if constant_name(o) is None]
    return LayerCount(
        name=name,
        kind=kind,
        macs=product.macs(first, second, result) // images,
        weights=sum(constants),
        inputs=sum(computed[:1]),
        outputs=math.prod(result) // images,
        second_inputs=sum(computed[1:]),
    )


def _other_name(node: fx.Node) -> str:
    """After its constant, ``blocks.7.mlp.fc2.side_weight``, which is no layer's name, else after the node."""
    constants = (constant_name(node.args[i]) for i in _PRODUCTS[node.target].operands)
    return next(filter(None, constants), f"{module_of(node)}.{node.name}".lstrip("."))


def _merged(a: LayerCount, b: LayerCount) -> LayerCount:
    return replace(
        a,
        macs=a.macs + b.macs,
        inputs=a.inputs + b.inputs,
        outputs=a.outputs + b.outputs,
        second_inputs=a.second_inputs + b.second_inputs,
    )


def _sizes(node: Any) -> list[int]:
    """The traced shape with every symbol replaced by 1, so that ``64 * batch`` windows are 64."""
    return [size if isinstance(size, int) else _at_one(size) for size in shape_of(node)]


def _at_one(size: torch.SymInt) -> int:
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))
