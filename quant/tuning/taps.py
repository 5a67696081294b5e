"""A graph that also returns values from its middle."""

from collections.abc import Collection

from torch import fx

__all__ = ["with_taps"]


def with_taps(graph: fx.GraphModule, names: Collection[str]) -> fx.GraphModule:
    """The graph, sharing all modules and parameters, that returns (output, (value, …)).

    Args:
        graph: of one output.
        names: of the nodes whose values are returned too, in the order of the graph.
    """
    tapped = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = tapped.graph_copy(graph.graph, copies)
    if isinstance(output, (tuple, list)):
        (output,) = output
    tapped.output((output, tuple(copy for node, copy in copies.items() if node.name in names)))
    return fx.GraphModule(graph, tapped)
