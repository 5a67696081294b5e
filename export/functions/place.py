"""Put the nodes of ONNX functions into an export skeleton, in place of the layers they stand for."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from export.functions.channel_codes import channel_codes_node
from export.functions.layer_norm import integer_layer_norm_node
from export.functions.log2_codes import log2_codes_node
from export.functions.softmax import log_int_softmax_node, shift_matmul_node
from quant.graph.nodes import tensor_of
from quant.integer.modules import IntegerLayerNorm, LogIntSoftmax, ShiftMatMul
from quant.integer.softmax import HALVINGS, powers_of_two
from quant.kernels import dequantize
from quant.placement import Site
from quant.qparams import QParams

__all__ = [
    "FLOAT_READERS",
    "has_channel_codes",
    "has_log2_codes",
    "is_function",
    "place_codes",
    "place_integer_layers",
]

FLOAT_READERS = frozenset({"layer_norm.input", "residual_add.input", "gelu.input"})
"""Roles whose readers compute in float or in functions, so that one scale per channel does no harm."""


def has_channel_codes(site: Site, qparams: QParams) -> bool:
    """Whether an activation is exported as a function: it has one scale for each channel of the last axis."""
    return not site.is_weight and qparams.axis == -1 and FLOAT_READERS.issuperset(site.roles)


def has_log2_codes(site: Site, qparams: QParams) -> bool:
    """Whether an activation is exported as a function: attention weights that are powers of two."""
    return qparams.scheme == "log2" and qparams.scale.ndim == 0 and site.roles == ("softmax.output",)


def is_function(site: Site, qparams: QParams) -> bool:
    """Whether the place is written as a function of standard operators, not as Q/DQ."""
    return has_channel_codes(site, qparams) or has_log2_codes(site, qparams)


def place_codes(graph: fx.GraphModule, node: fx.Node, site: Site, qparams: QParams) -> None:
    """Replace the fake-quant layer that ``node`` calls, whose place :func:`is_function`."""
    if has_log2_codes(site, qparams):
        codes = torch.arange(qparams.qmax + 1, dtype=torch.int32)
        steps = {"scale": qparams.scale.detach(), "table": dequantize(codes, qparams)}
        _put(graph, node, site.name, log2_codes_node, node.args[:1], steps)
        return
    zero_point = qparams.zero_point.flatten()[0]  # the same for all channels
    lowest, highest = qparams.limits() if qparams.wide else map(torch.tensor, (qparams.qmin, qparams.qmax))
    constants = {
        "inverse": 1.0 / qparams.scale,
        "scale": qparams.scale,
        "zero_point": zero_point,
        "lowest": lowest,
        "highest": highest,
    }
    floats = {name: value.detach().float() for name, value in constants.items()}
    _put(graph, node, site.name, channel_codes_node, node.args[:1], floats)


def place_integer_layers(graph: fx.GraphModule) -> None:
    """Replace every integer layer of a quantizing graph, in place."""
    for node in list(graph.graph.nodes):
        if node.op != "call_module":
            continue
        path = str(node.target)
        layer = graph.get_submodule(path)
        if isinstance(layer, IntegerLayerNorm):
            gamma, beta = (tensor_of(graph, str(a.target)) for a in node.args[1:3] if isinstance(a, fx.Node))
            constants = vars(layer.constants(gamma, beta))
            _put(graph, node, path, integer_layer_norm_node, node.args[:1], constants)
        elif isinstance(layer, LogIntSoftmax):
            _put(graph, node, path, log_int_softmax_node, node.args, _softmax_constants(layer))
        elif isinstance(layer, ShiftMatMul):
            _put(graph, node, path, shift_matmul_node, node.args, {"scale": layer.scale})


def _softmax_constants(layer: LogIntSoftmax) -> dict[str, Tensor]:
    fixed = layer.constants
    entries = torch.arange(min(1 << fixed.bits, HALVINGS + 1) + 1)
    return {
        "scale": torch.tensor(fixed.scale),
        "ln2": torch.tensor(fixed.ln2),
        "linear": torch.tensor(fixed.linear),
        "constant": torch.tensor(fixed.constant),
        "shift": torch.tensor(fixed.shift),
        "table": powers_of_two(entries, fixed.bits),
    }


def _put(
    graph: fx.GraphModule,
    node: fx.Node,
    path: str,
    call: Callable[..., Tensor],
    values: tuple[Any, ...],
    constants: Mapping[str, Tensor],
) -> None:
    """Call a function with ``values`` and then ``constants``, which become buffers ``<path>.<name>``."""
    holder = nn.Module()
    for name, value in constants.items():
        holder.register_buffer(name, value.detach().clone())
    graph.add_submodule(path, holder)
    with graph.graph.inserting_before(node):
        arguments = [graph.graph.get_attr(f"{path}.{name}") for name in constants]
        new = graph.graph.call_function(call, (*values, *arguments))
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)
