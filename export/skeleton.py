"""Replace the fake-quant layers of a graph by operators that ONNX export understands.

The result fixes where Q and DQ stand. Its scales, zero points and codes are overwritten afterwards
(:mod:`export.passes.encodings`). Until then each scale is nudged by its own number of units in the last
place: exporter and simplifier merge equal constants, and the names would go with them.
"""

import copy

import torch
from torch import fx, nn

import export.operators  # noqa: F401  (registers the operators)
from quant.calibrated import CalibratedGraph
from quant.errors import Unsupported
from quant.graph.nodes import tensor_of
from quant.kernels import quantize_codes
from quant.placement import Site
from quant.qparams import QParams

__all__ = ["qdq_skeleton"]


def qdq_skeleton(calibrated: CalibratedGraph, frozen: dict[str, QParams]) -> fx.GraphModule:
    """A copy of the graph with ``octavo::quantize_dequantize`` and ``octavo::dequantize`` at the sites.

    Weights become int8 buffers ``<site>.codes``; each site has ``<site>.scale`` and, for activations,
    ``<site>.zero_point``.

    Args:
        calibrated: the graph.
        frozen: parameters of every site, unsigned codes for activations.

    Raises:
        Unsupported: a format that Q/DQ operators of the supported opsets cannot express, naming the site.
    """
    graph = copy.deepcopy(calibrated.graph)
    distinct = iter(range(len(calibrated.sites)))
    nodes = {node.target: node for node in graph.graph.nodes if node.op == "call_module"}
    for site in calibrated.sites:
        qparams = frozen[site.name]
        if qparams.scheme != "uniform" or qparams.group_size is not None:
            what = "groups" if qparams.group_size is not None else f"scheme '{qparams.scheme}'"
            raise Unsupported(f"'{site.name}' uses {what}, which is simulation only and cannot be exported")
        if qparams.axis is not None and not site.is_weight:
            raise Unsupported(f"'{site.name}': activations need one scale per tensor to be exported")
        if site.is_weight and (bool(qparams.zero_point.any()) or qparams.qmin >= 0):
            raise Unsupported(f"'{site.name}': weights need signed, symmetric codes to be exported")
        if site.is_weight and qparams.axis not in (None, 0):
            raise Unsupported(
                f"'{site.name}': weights need one scale per output channel (axis 0) or per tensor to be "
                f"exported, not along axis {qparams.axis}"
            )
        _replace(graph, nodes[site.path], site, qparams, 1.0 + next(distinct) * 2.0**-22)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    graph.delete_all_unused_submodules()
    return graph


def _replace(graph: fx.GraphModule, node: fx.Node, site: Site, qparams: QParams, nudge: float) -> None:
    value = node.args[0]
    assert isinstance(value, fx.Node)
    constants: dict[str, torch.Tensor] = {"scale": qparams.scale.detach() * nudge}
    if site.is_weight:
        name = str(value.target)
        weight = tensor_of(graph, name)
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
