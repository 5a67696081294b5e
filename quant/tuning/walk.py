"""Walk through a calibrated graph in forward order and let layer methods change it on the way."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import fx

from quant.graph.nodes import is_call, layer_name
from quant.methods.outlier_side_path import CLIPPED_UNITS
from quant.methods.registry import LayerMethod, MethodNote
from quant.placement import Site
from quant.tuning.layer import Layer
from quant.tuning.model import Tuning
from quant.tuning.product import Product
from quant.tuning.stream import Stream

__all__ = ["walk"]

aten = torch.ops.aten
_LAYERS = (aten.linear.default, aten.conv2d.default)
_PRODUCTS = (aten.matmul.default, aten.bmm.default)


def walk(tuning: Tuning, methods: Sequence[LayerMethod]) -> list[MethodNote]:
    """Run graph and reference side by side, and stop in front of every quantized layer and product.

    Returns:
        The methods' remarks, in forward order.
    """
    by_name = {node.name: node for node in tuning.reference.graph.nodes}
    by_node = {site.node: site for site in tuning.sites}
    held = {n: n.all_input_nodes[0] for n, site in by_node.items() if not site.is_weight}
    quantized = Stream(tuning.graph, tuning.batches, held)
    reference = Stream(tuning.reference, tuning.batches)
    stops = [n for n in tuning.graph.graph.nodes if _stop(n, by_node) is not None]
    notes: list[MethodNote] = []
    done = 0
    for node in tuning.graph.graph.nodes:
        twin = by_name.get(node.name)
        if twin is not None:
            reference.run(twin)
        subject = _stop(node, by_node)
        if subject is not None:
            assert twin is not None
            notes += _visit(node, twin, subject, (quantized, reference), tuning, by_node, methods)
            for source in _constant_sources(node):
                quantized.run(source)
            for source in node.all_input_nodes:
                if source in by_node and not by_node[source].is_weight:
                    quantized.run(source)
            done += 1
            tuning.progress("tuning layers", done, len(stops))
        quantized.run(node)
        if twin is not None:
            reference.release(twin)
        quantized.release(node)
    return notes


def _stop(node: fx.Node, sites: dict[fx.Node, Site]) -> Literal["layer", "product"] | None:
    if is_call(node, *_LAYERS) and node.args[1] in sites:
        return "layer"
    if is_call(node, *_PRODUCTS):
        found = [sites[a] for a in node.args[:2] if isinstance(a, fx.Node) and a in sites]
        if any(role.startswith(("attention", "softmax")) for site in found for role in site.roles):
            return "product"
    return None


def _visit(
    node: fx.Node,
    twin: fx.Node,
    subject: Literal["layer", "product"],
    streams: tuple[Stream, Stream],
    tuning: Tuning,
    sites: dict[fx.Node, Site],
    methods: Sequence[LayerMethod],
) -> list[MethodNote]:
    found: list[MethodNote | None] = []
    if subject == "layer":
        layer = _layer(node, twin, streams, tuning, sites)
        found = [method.tune_layer(layer) for method in methods]
    else:
        product = _product(node, twin, streams, tuning, sites)
        found = [method.tune_product(product) for method in methods]
    return [note for note in found if note is not None]


def _layer(
    node: fx.Node,
    twin: fx.Node,
    streams: tuple[Stream, Stream],
    tuning: Tuning,
    sites: dict[fx.Node, Site],
) -> Layer:
    quantized, reference = streams
    source, weight = node.args[:2]
    assert isinstance(source, fx.Node)
    assert isinstance(weight, fx.Node)
    raw, site = _unquantized(source, sites)
    float_source = twin.args[0]
    assert isinstance(float_source, fx.Node)
    kind = sites[weight].role.removesuffix(".weight")
    assert kind in ("linear", "conv", "patch_conv")
    return Layer(
        name=layer_name(twin),
        kind=kind,  # type: ignore[arg-type]
        node=node,
        weight_site=sites[weight],
        input_site=site,
        parameters=tuning.parameters,
        inputs=quantized.get(raw),
        float_inputs=reference.get(float_source),
        float_outputs=reference.get(twin),
        clipped_units=tuple(node.meta.get(CLIPPED_UNITS, ())),
    )


def _product(
    node: fx.Node,
    twin: fx.Node,
    streams: tuple[Stream, Stream],
    tuning: Tuning,
    sites: dict[fx.Node, Site],
) -> Product:
    quantized, reference = streams
    operands = [_unquantized(a, sites) for a in node.args[:2] if isinstance(a, fx.Node)]
    site = next(s for _, s in operands if s is not None)
    floats = [reference.get(a) for a in twin.args[:2] if isinstance(a, fx.Node)]
    return Product(
        name=site.layer,
        kind="qk" if "attention_qk.input" in site.roles else "pv",
        sites=(operands[0][1], operands[1][1]),
        inputs=(quantized.get(operands[0][0]), quantized.get(operands[1][0])),
        float_inputs=(floats[0], floats[1]),
        parameters=tuning.parameters,
    )


def _unquantized(source: fx.Node, sites: dict[fx.Node, Site]) -> tuple[fx.Node, Site | None]:
    """What stands in front of a quantizer, and the quantizer's site."""
    if source not in sites:
        return source, None
    raw = source.args[0]
    assert isinstance(raw, fx.Node)
    return raw, sites[source]


def _constant_sources(node: fx.Node) -> list[fx.Node]:
    """The weight, its quantizer and the bias of a layer, in the order of execution; none of a product."""
    found: list[fx.Node] = []
    for source in node.args[1:3]:
        if isinstance(source, fx.Node):
            chain = [*source.all_input_nodes, source]
            found += chain if chain[0].op == "get_attr" else []
    return found
