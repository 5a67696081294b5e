"""Quantize single layers in place, on their float inputs, while the float network runs once."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, fx

from quant.kernels import fake_quantize
from quant.mixed.bench import Bench
from quant.mixed.groups import Group

__all__ = ["LayerWalk", "layer_calls", "layer_errors", "quantized_output"]


def layer_calls(bench: Bench) -> dict[fx.Node, list[tuple[int, Group]]]:
    """The calls of all layers, each with its groups and their rows."""
    calls: dict[fx.Node, list[tuple[int, Group]]] = {}
    for row, group in enumerate(bench.groups):
        for node in group.nodes:
            calls.setdefault(node, []).append((row, group))
    return calls


class LayerWalk(fx.Interpreter):
    """Runs a graph and shows each layer's arguments and result."""

    def __init__(self, bench: Bench, see: Callable[[fx.Node, tuple[Any, ...], Tensor], None]) -> None:
        super().__init__(bench.graph)
        self.extra_traceback = False
        self._calls = layer_calls(bench)
        self._see = see

    def run_node(self, n: fx.Node) -> Any:
        """Execute a node; of a layer, show what it read and returned."""
        result = super().run_node(n)
        if n in self._calls:
            args, _ = self.fetch_args_kwargs_from_env(n)
            self._see(n, tuple(args), result)
        return result


def layer_errors(
    bench: Bench, arguments: Mapping[fx.Node, tuple[Any, ...]], outputs: Mapping[fx.Node, Tensor]
) -> Iterator[tuple[fx.Node, int, int, Tensor]]:
    """For each call of a layer in each group at each width: the call, row, column, and Ô − O.

    Args:
        bench: what is measured.
        arguments: what each layer reads in float, of some or all layers.
        outputs: O, what it returns.
    """
    calls = layer_calls(bench)
    for node in arguments:
        for row, group in calls[node]:
            for column, bits in enumerate(bench.bits):
                changed = quantized_output(bench, group, node, arguments[node], bits)
                yield node, row, column, changed - outputs[node]


def quantized_output(bench: Bench, group: Group, node: fx.Node, args: tuple[Any, ...], bits: int) -> Tensor:
    """The layer's result with its input and weight at a width; ``args`` are its float arguments."""
    sites = {site.node: site for site in group.sites}
    changed = list(args)
    for index, source in enumerate(node.args[:2]):
        site = sites.get(source) if isinstance(source, fx.Node) else None
        qparams = site and bench.formats.qparams(site, bits)
        if site and qparams:
            changed[index] = fake_quantize(args[index], qparams, site.name)
    result: Tensor = node.target(*changed)  # type: ignore[operator]
    return result
