"""Replace the fake-quant layers of a graph by operators that ONNX export understands.

The result fixes where Q and DQ stand. Its scales, zero points and codes are overwritten afterwards
(:mod:`export.passes.encodings`), and only then get types other than bytes. Until then each scale is nudged by
its own number of units in the last place: exporter and simplifier merge equal constants, and the names would
go with them.
"""

import copy

import torch
from torch import fx, nn

import export.operators  # noqa: F401  (registers the operators)
from export.functions.place import is_function, place_codes, place_integer_layers
from export.supported import check_formats
from quant.calibrated import CalibratedGraph
from quant.graph.nodes import tensor_of
from quant.kernels import quantize_codes
from quant.placement import Site
from quant.qparams import QParams, qparams_from_range
from quant.spec import QuantSpec

__all__ = ["qdq_skeleton"]


def qdq_skeleton(calibrated: CalibratedGraph, frozen: dict[str, QParams]) -> fx.GraphModule:
    """A copy of the graph with ``octavo::quantize_dequantize`` and ``octavo::dequantize`` at the sites.

    Integer layers, activations with one scale per channel and attention weights that are powers of two become
    nodes of ONNX functions (:mod:`export.functions`), whose constants are final.

    Weights become int8 buffers ``<site>.codes``; each site has ``<site>.scale`` and, for activations,
    ``<site>.zero_point``.

    Args:
        calibrated: the graph.
        frozen: parameters of every site, unsigned codes for activations.

    Raises:
        Unsupported: a format that Q/DQ operators of the supported opsets cannot express, naming the site.
    """
    check_formats(calibrated, frozen)
    graph = copy.deepcopy(calibrated.graph)
    distinct = iter(range(len(calibrated.sites)))
    nodes = {node.target: node for node in graph.graph.nodes if node.op == "call_module"}
    place_integer_layers(graph)
    for site in calibrated.sites:
        if is_function(site, frozen[site.name]):
            place_codes(graph, nodes[site.path], site, frozen[site.name])
            continue
        _replace(graph, nodes[site.path], site, frozen[site.name], 1.0 + next(distinct) * 2.0**-22)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    graph.delete_all_unused_submodules()
    return graph


def _replace(graph: fx.GraphModule, node: fx.Node, site: Site, qparams: QParams, nudge: float) -> None:
    value = node.args[0]
    assert isinstance(value, fx.Node)
    weight = tensor_of(graph, str(value.target)) if site.is_weight else None
    qparams = _in_bytes(qparams, weight)
    constants: dict[str, torch.Tensor] = {"scale": qparams.scale.detach() * nudge}
    if weight is not None:
        name = str(value.target)
        constants["codes"] = quantize_codes(weight, qparams).to(torch.int8)
        owner, _, leaf = name.rpartition(".")
        if len(value.users) == 1:
            delattr(graph.get_submodule(owner), leaf)
    else:
        constants["zero_point"] = qparams.zero_point.to(torch.uint8)
    holder = nn.Module()
    for leaf, tensor in constants.items():
        holder.register_buffer(leaf, tensor)
    graph.add_submodule(site.name, holder)
    with graph.graph.inserting_before(node):
        arguments = {leaf: graph.graph.get_attr(f"{site.name}.{leaf}") for leaf in constants}
        if site.is_weight:
            new = graph.graph.call_function(
                torch.ops.octavo.dequantize.default,
                (arguments["codes"], arguments["scale"], 0),
            )
        else:
            new = graph.graph.call_function(
                torch.ops.octavo.quantize_dequantize.default,
                (value, arguments["scale"], arguments["zero_point"]),
            )
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)


def _in_bytes(qparams: QParams, weight: torch.Tensor | None) -> QParams:
    """Parameters of nearly the same numbers in 8-bit codes, which is all that the two operators know."""
    if qparams.scheme == "fp8_e4m3" and weight is None:
        spec = QuantSpec.activation(symmetric=True)
        amax = qparams.scale * qparams.qmax
        return qparams_from_range(-amax, amax, spec)
    if weight is not None and (qparams.scheme != "uniform" or qparams.group_size or qparams.zero_point.any()):
        return qparams_from_range(*weight.aminmax(), QuantSpec.weight(granularity="per_tensor"))
    return qparams
