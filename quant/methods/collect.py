"""Collect what graph methods ask for: channel ranges and sampled rows of a float graph's activations."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, fx

from quant.graph.nodes import module_of
from quant.methods.registry import GraphMethod
from quant.methods.statistics import ChannelRange, Statistics
from quant.observers import make_observer
from quant.spec import QuantSpec
from quant.watch import watch

__all__ = ["Sampling", "collect_statistics"]

ROWS = 2048
"""How many rows a sample has, about: this many over the images of the pass."""


@runtime_checkable
class Sampling(Protocol):
    """A graph method that looks at rows of activations."""

    def sampled(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The nodes whose rows (all axes but the last) it needs."""
        ...


def collect_statistics(
    graph: fx.GraphModule,
    methods: Sequence[GraphMethod],
    batches: Iterable[Tensor],
    images: int,
    progress: Callable[[int], None],
) -> tuple[Statistics, int]:
    """One pass over some images.

    Args:
        graph: a float graph.
        methods: whose wishes are served.
        batches: the images [B, C, H, W].
        images: how many there are, about; decides how many rows of each are sampled.
        progress: told the number of images of each batch.

    Returns:
        The statistics, and how many images were seen: 0, without a pass, where no method asks for anything.
    """
    watched = {node for method in methods for node in method.watched(graph)}
    sampled = {n for method in methods if isinstance(method, Sampling) for n in method.sampled(graph)}
    if not watched | sampled:
        return Statistics(), 0
    observers = {
        node: make_observer(QuantSpec(granularity="per_channel", axis=-1), module_of(node) or node.name)
        for node in watched
    }
    rows: dict[fx.Node, list[Tensor]] = {node: [] for node in sampled}
    share = max(1, -(-ROWS // max(1, images)))
    seen = 0

    def see(node: fx.Node, value: Tensor) -> None:
        if node in observers:
            observers[node].update(value)
        if node in rows:
            rows[node].append(_some_rows(value, share, seen))

    for batch in batches:
        watch(graph, watched | sampled, batch, see)
        seen += len(batch)
        progress(len(batch))
    statistics = Statistics()
    if seen:
        for node in sorted(watched, key=lambda n: n.name):
            low, high = observers[node].range()
            statistics.ranges[node] = ChannelRange(low.float(), high.float())
        statistics.samples = {node: torch.cat(rows[node]) for node in sorted(sampled, key=lambda n: n.name)}
    return statistics, seen


def _some_rows(value: Tensor, share: int, seed: int) -> Tensor:
    """``share`` rows of each image of [B, ..., C], at positions that all nodes of equal length share."""
    tokens = value.reshape(len(value), -1, value.shape[-1])
    count = tokens.shape[1]
    if count <= share:
        return tokens.flatten(0, 1).clone()
    generator = torch.Generator().manual_seed(seed)
    picked = torch.stack([torch.randperm(count, generator=generator)[:share].sort().values for _ in tokens])
    return tokens.gather(1, picked[..., None].expand(-1, -1, tokens.shape[-1])).flatten(0, 1)
