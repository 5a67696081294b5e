"""Find which rows of which projections become q, k and v of an attention product."""

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from quant.graph.channels import channels_behind, channels_of, concrete, sinks
from quant.graph.nodes import constant_name, module_of
from quant.graph.parameters import is_private
from quant.roles import find_places

__all__ = ["QueryKey", "ValueProjection", "find_query_keys", "find_value_projections"]

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class ValueProjection:
    """An attention's values, from the rows that make them to the columns that read them.

    Attributes:
        layer: the layer behind the attention.
        source: the linear node that computes the values, perhaps among others.
        rows: [C], the output channel of ``source`` that channel c of the layer behind reads.
        linear: the linear node behind the attention.
    """

    layer: str
    source: fx.Node
    rows: Tensor
    linear: fx.Node


@dataclass(frozen=True, eq=False)
class QueryKey:
    """The two factors of an attention's scores.

    Attributes:
        layer: the module that multiplies them.
        product: the node of the product.
        query: the linear node that computes the queries.
        query_rows: [H, D], its output channels by head.
        key: the linear node that computes the keys; it may be the same.
        key_rows: [H, D], its output channels in the same order.
    """

    layer: str
    product: fx.Node
    query: fx.Node
    query_rows: Tensor
    key: fx.Node
    key_rows: Tensor


def find_value_projections(graph: fx.GraphModule) -> list[ValueProjection | tuple[str, str]]:
    """One for each attention: what was found, or (layer, reason) where its values cannot be scaled."""
    return [_value_projection(graph, product) for product in _products(graph, "attention_pv.input")]


def find_query_keys(graph: fx.GraphModule) -> list[QueryKey | tuple[str, str]]:
    """One for each attention: what was found, or (layer, reason) where q and k cannot be scaled."""
    return [_query_key(graph, product) for product in _products(graph, "attention_qk.input")]


def _products(graph: fx.GraphModule, role: str) -> list[fx.Node]:
    found = (place.readers[0] for place in find_places(graph) if place.role == role and place.readers)
    return list(dict.fromkeys(found))


def _value_projection(graph: fx.GraphModule, product: fx.Node) -> ValueProjection | tuple[str, str]:
    layer = module_of(product) or product.name
    value = product.args[1]
    assert isinstance(value, fx.Node)
    path = channels_of(value)  # [..., N, D]
    if path is None:
        return layer, "its values are not those of a linear layer"
    source, channels = path
    if not bool((channels == channels[..., :1, :]).all()):
        return layer, "tokens of its values have different channels"
    queries = product.meta["val"].shape[-2]
    tokens = [*channels.shape[:-2], concrete(queries), channels.shape[-1]]
    behind = channels_behind(product, channels[..., :1, :].expand(tokens))
    if behind is None or len(behind) != 1:
        return layer, "something other than one linear layer reads it"
    linear, rows = behind[0]
    reason = (
        _reason(graph, source, rows, product)
        or _reason_parameters(graph, linear)
        or ("heads share their values" if len(torch.unique(rows)) != len(rows) else None)
    )
    return (layer, reason) if reason else ValueProjection(layer, source, rows, linear)


def _query_key(graph: fx.GraphModule, product: fx.Node) -> QueryKey | tuple[str, str]:
    layer = module_of(product) or product.name
    paths = []
    for operand in product.args[:2]:
        assert isinstance(operand, fx.Node)
        paths.append(channels_of(operand))
    first, second = paths
    if first is None or second is None:
        return layer, "its queries or keys are not those of a linear layer"
    query, key = first[1], second[1].transpose(-2, -1)  # [..., N, D]
    if any(not bool((c == c[..., :1, :]).all()) for c in (query, key)):
        return layer, "tokens of its queries or keys have different channels"
    width = query.shape[-1]
    pairs: Tensor = torch.cat([query[..., 0, :], key[..., 0, :]], dim=-1).reshape(-1, 2 * width)
    heads: Tensor = torch.unique(pairs, dim=0)
    query_rows, key_rows = heads[:, :width], heads[:, width:]
    reason = None
    for (source, _), rows in ((first, query_rows), (second, key_rows)):
        reason = reason or _reason(graph, source, rows, product)
        if len(torch.unique(rows)) != rows.numel():
            reason = reason or "heads share their queries or keys"
    if first[0] is second[0] and bool(torch.isin(query_rows.flatten(), key_rows.flatten()).any()):
        reason = reason or "its queries are its keys"
    return (layer, reason) if reason else QueryKey(layer, product, first[0], query_rows, second[0], key_rows)


def _reason(graph: fx.GraphModule, source: fx.Node, rows: Tensor, product: fx.Node) -> str | None:
    """Why these rows of a linear layer cannot be scaled for the sake of one product, or None."""
    for reader, value in sinks(source):
        path = channels_of(value)
        if reader is not product and (
            path is None or bool(torch.isin(path[1].flatten(), rows.flatten()).any())
        ):
            return f"'{module_of(reader) or reader.name}' reads the same channels"
    return _reason_parameters(graph, source)


def _reason_parameters(graph: fx.GraphModule, linear: fx.Node) -> str | None:
    parameters = linear.args[1:3]
    if len(parameters) != 2 or None in map(constant_name, parameters):
        return f"'{module_of(linear)}' has no weight or no bias of its own"
    for parameter in parameters:
        if not is_private(graph, parameter):
            return f"'{constant_name(parameter)}' is shared with another layer"
    return None
