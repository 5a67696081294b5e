"""Whether unsigned sums give what signed ones give, on the layers of a network (arXiv 2202.02783)."""

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from benchmarks.analyses.added import AddedGraph
from benchmarks.analyses.findings import Cell, Table
from quant.energy.unsigned import run_unsigned, to_unsigned
from quant.graph.nodes import constant_name, is_call, tensor_of
from quant.kernels import quantize_codes
from quant.mixed.groups import layer_name_of
from quant.placement import Site

__all__ = ["check_unsigned"]

aten = torch.ops.aten
_BITS = 8
_COLUMNS = ("layer", "products of a sum", "sums compared", "sums that differ", "largest half, % of 32 bits")


@torch.no_grad()
def check_unsigned(graph: AddedGraph, images: Tensor, rows: int) -> Table:
    """Compute some sums of every layer in signed and in unsigned integers, weights and inputs of 8 bits.

    Args:
        graph: whose layers are looked at; grouped convolutions are left out.
        images: what the network reads, [N, ...].
        rows: how many inputs of each layer are taken, evenly spaced.
    """
    graph.multiply(_BITS)
    sites = {site.node: site for group in graph.groups for site in group.sites}
    layers = [node for group in graph.groups for node in group.nodes if _groups(node) == 1]
    seen: dict[fx.Node, Tensor] = {}
    _Inputs(graph.calibrated.graph, layers, seen).run(images)
    cells = [
        (layer_name_of(node), *_compared(graph, node, sites, _rows(node, seen[node], sites, rows)))
        for node in layers
        if {node.args[0], node.args[1]} <= sites.keys()
    ]
    note = (
        "(W+ q + b+) - (W- q + b-) in uint32 against W (q - z) in int64, q the codes of inputs and z their "
        "zero point, whose part joins the bias, so that inputs below zero need nothing else. The larger "
        "half is the larger of the two sums."
    )
    return Table("unsigned", "Unsigned arithmetic, checked", _COLUMNS, tuple(cells), note)


class _Inputs(fx.Interpreter):
    """Keeps what some layers read."""

    def __init__(self, graph: fx.GraphModule, layers: list[fx.Node], seen: dict[fx.Node, Tensor]) -> None:
        super().__init__(graph)
        self._layers = set(layers)
        self._seen = seen

    def run_node(self, n: fx.Node) -> Any:
        """Execute a node; of a layer, keep its input."""
        if n in self._layers:
            args, _ = self.fetch_args_kwargs_from_env(n)
            self._seen[n] = args[0]
        return super().run_node(n)


def _compared(graph: AddedGraph, node: fx.Node, sites: dict[Any, Site], codes: Tensor) -> tuple[Cell, ...]:
    """Length of a sum, how many were compared, how many differ, and the largest half.

    Args:
        graph: of the layer.
        node: the layer.
        sites: by node.
        codes: of its inputs, int64 [n, K].
    """
    source, target = (sites[node.args[i]].quantizer.qparams for i in (0, 1))
    constant = constant_name(sites[node.args[1]].node.args[0])
    weight = quantize_codes(tensor_of(graph.calibrated.graph, str(constant)), target).flatten(1)  # [O, K]
    zero = int(source.zero_point)
    halves = to_unsigned(weight, zero, source.scale, target.scale, highest=source.qmax)
    result, _ = run_unsigned(halves, codes)
    expected = (codes - zero) @ weight.to(torch.int64).T
    sums = [
        codes @ half.to(torch.int64).T + bias
        for half, bias in (
            (halves.positive, halves.positive_bias),
            (halves.negative, halves.negative_bias),
        )
    ]
    largest = max(int(half.max()) for half in sums)
    return weight.shape[1], result.numel(), int((result != expected).sum()), 100 * largest / 2**32


def _rows(node: fx.Node, x: Tensor, sites: dict[Any, Site], count: int) -> Tensor:
    """Codes of the inputs that meet the weight's rows, [n, K]: tokens, or the patches of a convolution."""
    if is_call(node, aten.conv2d.default):
        stride, padding, dilation, _ = _conv_arguments(node)
        kernel = sites[node.args[1]].node.meta["val"].shape[2:]
        # Padding is a value of 0, so that patches are cut out first and coded then.
        x = functional.unfold(x, tuple(kernel), dilation, padding, stride).transpose(1, 2)
    x = x.reshape(-1, x.shape[-1])
    some = torch.arange(min(count, len(x))) * len(x) // min(count, len(x))
    return quantize_codes(x[some], sites[node.args[0]].quantizer.qparams).to(torch.int64)


def _groups(node: fx.Node) -> int:
    return int(_conv_arguments(node)[3]) if is_call(node, aten.conv2d.default) else 1


def _conv_arguments(node: fx.Node) -> tuple[Any, Any, Any, Any]:
    given: list[Any] = list(node.args[3:])
    stride, padding, dilation, groups = given + [[1, 1], [0, 0], [1, 1], 1][len(given) :]
    return stride, padding, dilation, groups
