"""Look at intermediate values of a graph while it runs."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["watch"]


class _Watcher(fx.Interpreter):
    def __init__(
        self, graph: fx.GraphModule, nodes: Collection[fx.Node], see: Callable[[fx.Node, Tensor], None]
    ) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # it would be written into our own one-line messages
        self._nodes = set(nodes)
        self._see = see

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self._nodes:
            self._see(n, result)
        return result


@torch.no_grad()
def watch(
    graph: fx.GraphModule, nodes: Collection[fx.Node], images: Tensor, see: Callable[[fx.Node, Tensor], None]
) -> Any:
    """Run one batch, showing the value of each of ``nodes`` as soon as it is computed.

    Args:
        graph: a captured graph.
        nodes: nodes of it.
        images: [N, ...], its input.
        see: called with the node and its value, which must not be changed.

    Returns:
        The graph's output.
    """
    return _Watcher(graph, nodes, see).run(images)
