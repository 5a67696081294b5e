"""Remember what a part of a graph computed before a method put an approximation in its place."""

from dataclasses import dataclass

import torch
from torch import fx, nn

from quant.errors import InternalError

__all__ = ["remember_original", "restore_originals"]

aten = torch.ops.aten

_ORIGINAL = "octavo_original"


@dataclass(frozen=True, eq=False)
class _Original:
    """What a node stands for: ``module`` of the value of the node called ``source``."""

    module: nn.Module
    source: str


def remember_original(graph: fx.GraphModule, value: fx.Node, source: fx.Node, module: nn.Module) -> fx.Node:
    """Give all readers of ``value`` a node that returns it, and that stands for ``module(source)`` exactly.

    Args:
        graph: changed in place; the caller recompiles it.
        value: what approximates ``module(source)``.
        source: what is computed in front of it; no later method may change its value.
        module: the original function, with its own parameters.

    Returns:
        The new node.
    """
    readers = list(value.users)
    with graph.graph.inserting_after(value):
        node = graph.graph.call_function(aten.alias.default, (value,))
    for reader in readers:
        reader.replace_input_with(value, node)
    node.meta |= {key: value.meta[key] for key in ("nn_module_stack", "val") if key in value.meta}
    node.meta[_ORIGINAL] = _Original(module, source.name)
    return node


def restore_originals(graph: fx.GraphModule) -> None:
    """Let a copy of a graph compute the original functions, in place, under the same node names.

    The approximations stay beside them, read by nobody: layers are compared with their own float values, and
    everything behind them with the original model's.

    Raises:
        InternalError: what an original reads is not in the graph any more.
    """
    nodes = {node.name: node for node in graph.graph.nodes}
    for node in nodes.values():
        original = node.meta.get(_ORIGINAL)
        if original is None:
            continue
        if original.source not in nodes:
            raise InternalError(f"'{original.source}', which the original of '{node.name}' reads, is gone")
        path = f"{node.name}_original"
        graph.add_submodule(path, original.module)
        node.op, node.target, node.args = "call_module", path, (nodes[original.source],)
    graph.graph.lint()
    graph.recompile()
