"""What graph methods know about a graph's activations: channel ranges, sampled rows, and earlier findings."""

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field

from torch import Tensor, fx

__all__ = ["ChannelRange", "Statistics"]


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Smallest and largest value of each channel of the last axis, both [C], float32."""

    low: Tensor
    high: Tensor

    @property
    def amax(self) -> Tensor:
        """Largest magnitude of each channel, [C]."""
        return self.low.abs().maximum(self.high.abs())


@dataclass(eq=False)
class Statistics(MutableMapping[fx.Node, ChannelRange]):
    """The statistics of one pass over some images; by node, the channel ranges.

    Attributes:
        ranges: channel ranges of the watched nodes.
        samples: rows [n, C] of the sampled nodes: the same seeded choice of positions (tokens) of each image.
            Empty when a stored calibration is rebuilt: see :meth:`once`.
        findings: what searches found, by a name such as ``layer_scale/blocks.0.norm1``. They are stored with
            the calibration.
    """

    ranges: dict[fx.Node, ChannelRange] = field(default_factory=dict)
    samples: dict[fx.Node, Tensor] = field(default_factory=dict)
    findings: dict[str, Tensor] = field(default_factory=dict)

    def once(self, name: str, search: Callable[[], Tensor]) -> Tensor:
        """The finding called ``name``, searched for the first time only.

        A method that decides by looking at samples keeps its decision here, so that the graph can be rebuilt
        from a stored calibration without images.
        """
        if name not in self.findings:
            self.findings[name] = search().detach().clone()
        return self.findings[name]

    def rescale(self, node: fx.Node, scale: Tensor, shift: Tensor) -> None:
        """Tell that the value of ``node`` is now ``scale · x + shift`` per channel, both [C], scale > 0."""
        if node in self.ranges:
            old = self.ranges[node]
            low, high = (old_bound.double() * scale + shift for old_bound in (old.low, old.high))
            self.ranges[node] = ChannelRange(low.float(), high.float())
        if node in self.samples:
            self.samples[node] = (self.samples[node].double() * scale + shift).float()

    def __getitem__(self, node: fx.Node) -> ChannelRange:
        """The channel ranges of a watched node."""
        return self.ranges[node]

    def __setitem__(self, node: fx.Node, value: ChannelRange) -> None:
        """Replace what is known of a node."""
        self.ranges[node] = value

    def __delitem__(self, node: fx.Node) -> None:
        """Forget a node's ranges."""
        del self.ranges[node]

    def __iter__(self) -> Iterator[fx.Node]:
        """The watched nodes."""
        return iter(self.ranges)

    def __len__(self) -> int:
        """How many nodes are watched."""
        return len(self.ranges)
