"""Run a graph again from the layer on that was changed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from quant.mixed.groups import Group

__all__ = ["replay"]


@torch.no_grad()
def replay(
    graph: fx.GraphModule,
    groups: Sequence[Group],
    images: Tensor,
    visit: Callable[[Group, Callable[[], Any]], None],
) -> Any:
    """Run one batch, stopping in front of every group.

    What lies in front of a group is computed once for all its widths, so that L groups cost about half of L
    passes for each width.

    Args:
        graph: a graph with fake-quant layers.
        groups: some of its groups.
        images: [N, ...], its input.
        visit: called with a group and a function that finishes the pass from there, with the fake-quant
            layers in the state they have then, and returns the output. It may change the state of the
            group's own layers, and has to change it back.

    Returns:
        The output of the uninterrupted pass.
    """
    order = {node: index for index, node in enumerate(graph.graph.nodes)}
    stops: dict[fx.Node, list[Group]] = {}
    for group in groups:
        sources = [site.node for site in group.sites if not site.is_weight]
        stops.setdefault(min((*group.nodes, *sources), key=order.__getitem__), []).append(group)
    return _Prefix(graph, stops, visit).run(images)


class _Prefix(fx.Interpreter):
    def __init__(
        self,
        graph: fx.GraphModule,
        stops: Mapping[fx.Node, list[Group]],
        visit: Callable[[Group, Callable[[], Any]], None],
    ) -> None:
        super().__init__(graph)
        self.extra_traceback = False
        self._stops = stops
        self._visit = visit
        self._done: dict[fx.Node, None] = {}

    def run_node(self, n: fx.Node) -> Any:
        for group in self._stops.get(n, ()):
            self._visit(group, lambda g=group: self._finish(g))  # type: ignore[misc]
        self._done[n] = None
        return super().run_node(n)

    def _finish(self, group: Group) -> Any:
        """Execute what was not executed yet, and the group's weights again."""
        start: dict[fx.Node, Any] = {
            **self._done,
            **self.env,
        }  # None stands for values that nobody reads any more
        for site in group.sites:
            if site.is_weight:
                start.pop(site.node, None)
                start.pop(site.node.all_input_nodes[0], None)
        suffix = fx.Interpreter(self.module)
        suffix.extra_traceback = False
        return suffix.run(initial_env=start)
