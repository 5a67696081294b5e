"""Quantize single layers in place, on their float inputs, while the float network runs once."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from quant.kernels import fake_quantize
from quant.mixed.bench import Bench
from quant.mixed.groups import Group

__all__ = ["LayerWalk", "layer_calls", "quantized_output"]


def layer_calls(bench: Bench) -> dict[fx.Node, tuple[int, Group]]:
    """The calls of all layers of all groups, with the row of the group."""
    return {node: (row, group) for row, group in enumerate(bench.groups) for node in group.nodes}


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
