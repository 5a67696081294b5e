"""What a weight-only quantization is measured against: every layer of the float model as it was captured."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, tensor_of
from quant.roles import find_places
from quant.tuning.stream import Stream

__all__ = ["ChannelSums", "FloatLayer", "float_layers"]


_CONSTANT = 1e-9


class ChannelSums:
    """Running sums over the values of each channel, in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0
        self._magnitudes: Tensor | float = 0.0

    def update(self, x: Tensor, axis: int) -> None:
        """Add a tensor with its channels along ``axis``."""
        rows = x.detach().movedim(axis, -1).reshape(-1, x.shape[axis]).double()
        self._count += len(rows)
        self._sum = self._sum + rows.sum(0)
        self._squares = self._squares + rows.square().sum(0)
        self._magnitudes = self._magnitudes + rows.abs().sum(0)

    @property
    def energy(self) -> Tensor:
        """Σ x² [C]."""
        assert isinstance(self._squares, Tensor)
        return self._squares

    @property
    def mean_abs(self) -> Tensor:
        """|x| on the average [C]."""
        assert isinstance(self._magnitudes, Tensor)
        return self._magnitudes / self._count

    @property
    def variance(self) -> Tensor:
        """x² − x̄² on the average [C]; 0 where it is no more than float32 makes of a constant."""
        square = self.energy / self._count
        spread: Tensor = square - (self._sum / self._count) ** 2
        return torch.where(spread > _CONSTANT * square, spread, 0.0)


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """A linear layer or convolution.

    Attributes:
        name: such as ``blocks.7.mlp.fc2``.
        node: the name of its node, which graph methods leave as it is.
        axis: of the channels it reads and returns.
        weight: [O, I] or [O, I / groups, kh, kw].
        inputs: what it reads.
        outputs: what it returns.
    """

    name: str
    node: str
    axis: int
    weight: Tensor
    inputs: ChannelSums
    outputs: ChannelSums


def float_layers(graph: fx.GraphModule, batches: Iterable[Tensor]) -> tuple[FloatLayer, ...]:
    """Run a float graph over some images.

    Args:
        graph: as it was captured.
        batches: images [B, ...].

    Returns:
        All its layers with a weight, in the order of execution.
    """
    layers: dict[fx.Node, FloatLayer] = {}
    for place in find_places(graph):
        kind, _, end = place.role.partition(".")
        if end == "weight":
            (node,) = place.readers or ()
            name = place.name.replace(".weight", "")  # numbered where the layer is called twice
            weight = tensor_of(graph, str(constant_name(place.value))).detach()
            axis = -1 if kind == "linear" else 1
            layers[node] = FloatLayer(name, node.name, axis, weight, ChannelSums(), ChannelSums())
    with torch.no_grad():
        for images in batches:
            stream = Stream(graph, [images])
            for node in graph.graph.nodes:
                stream.run(node)
                if node in layers:
                    source = node.args[0]
                    assert isinstance(source, fx.Node)
                    layers[node].inputs.update(stream.get(source)[0], layers[node].axis)
                    layers[node].outputs.update(stream.get(node)[0], layers[node].axis)
                stream.release(node)
    return tuple(layers[node] for node in graph.graph.nodes if node in layers)
