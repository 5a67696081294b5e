"""Train on a GPU where there is one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import fx

__all__ = ["place", "training_device", "working_on"]

_CPU = torch.device("cpu")


def training_device() -> torch.device:
    """The first CUDA device, else the CPU.

    What is trained on one and on the other differs by the order of floating-point sums; hide the GPU
    (``CUDA_VISIBLE_DEVICES=``) to repeat a CPU's result.
    """
    return torch.device("cuda") if torch.cuda.is_available() else _CPU


@contextmanager
def working_on(device: torch.device, graphs: Sequence[fx.GraphModule]) -> Iterator[None]:
    """Have graphs on another device for a while, and back on the CPU afterwards, whatever happens.

    Graphs made of them meanwhile share their parameters, but not their buffers: use them inside only.
    """
    if device == _CPU:
        yield
        return
    try:
        for graph in graphs:
            place(graph, device)
        yield
    finally:
        for graph in graphs:
            place(graph, _CPU)


def place(graph: fx.GraphModule, device: torch.device) -> None:
    """Move all parameters and buffers, and have the tensors that nodes create be created there, too."""
    graph.to(device)
    named = [node for node in graph.graph.nodes if node.kwargs.get("device") is not None]
    for node in named:
        node.kwargs = node.kwargs | {"device": device}
    if named:
        graph.recompile()
