"""Run a graph node by node over several batches at once, keeping only the values still needed."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["Stream"]


class Stream:
    """The values of a graph's nodes, for all batches, up to the node executed last.

    A node that depends on no input (a weight, its fake-quant layer) has one value instead of one per batch.
    Peak memory is that of the widest cut through the graph, for all images together.
    """

    def __init__(
        self, graph: fx.GraphModule, batches: Sequence[Tensor], held: Mapping[fx.Node, fx.Node] | None = None
    ) -> None:
        """Take a graph.

        Args:
            graph: all of its nodes will be run, in order.
            batches: its input, batch by batch.
            held: of a node, another whose value is kept until all readers of the first were run.
        """
        self._graph = graph
        self._batches = batches
        self._values: dict[fx.Node, list[Any]] = {}
        self._constants: dict[fx.Node, Any] = {}
        self._interpreter = fx.Interpreter(graph)
        self._interpreter.extra_traceback = False
        self._uses = {node: len(node.users) for node in graph.graph.nodes}
        self._held = dict(held or {})
        for node, other in self._held.items():
            self._uses[other] += len(node.users)

    @torch.no_grad()
    def run(self, node: fx.Node) -> None:
        """Execute one node for all batches; its inputs were executed before."""
        if node.op == "placeholder":
            self._values[node] = list(self._batches)
        elif node.op == "get_attr" or (
            node.op in ("call_function", "call_module")
            and node.all_input_nodes
            and all(n in self._constants for n in node.all_input_nodes)
        ):
            self._constants[node] = self._execute(node, 0)
        elif node.op != "output":
            self._values[node] = [self._execute(node, index) for index in range(len(self._batches))]

    def release(self, node: fx.Node) -> None:
        """Forget the inputs of an executed node that nobody else will read."""
        sources = node.all_input_nodes
        for source in [*sources, *(self._held[s] for s in sources if s in self._held)]:
            self._uses[source] -= 1
            if self._uses[source] == 0:
                self._values.pop(source, None)
        if not node.users:
            self._values.pop(node, None)

    def get(self, node: fx.Node) -> list[Any]:
        """The value of a node, per batch."""
        if node in self._constants:
            return [self._constants[node]] * len(self._batches)
        return self._values[node]

    def set(self, node: fx.Node, values: list[Any]) -> None:
        """Replace the value of a node."""
        self._values[node] = values

    def _execute(self, node: fx.Node, index: int) -> Any:
        def value(source: fx.Node) -> Any:
            return self._constants[source] if source in self._constants else self._values[source][index]

        args = fx.node.map_arg(node.args, value)
        kwargs = fx.node.map_arg(node.kwargs, value)
        return getattr(self._interpreter, node.op)(node.target, args, kwargs)
