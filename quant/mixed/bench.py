"""Everything that a measurement of sensitivity needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, fx

from quant.mixed.formats import Formats
from quant.mixed.groups import Group
from quant.mixed.settings import FLOAT
from quant.progress import Progress, silent

__all__ = ["Bench"]


@dataclass(frozen=True, eq=False)
class Bench:
    """A calibrated graph on which single groups are quantized.

    Attributes:
        graph: with its fake-quant layers.
        groups: those to measure.
        bits: the widths to measure.
        formats: switches the widths.
        images: batches [N, C, H, W].
        background: the width of every group of the graph while one is measured; None leaves all in float.
        probes: random vectors or draws of the metrics that need some.
        seed: of those.
        progress: told what is done.
    """

    graph: fx.GraphModule
    groups: Sequence[Group]
    bits: Sequence[int]
    formats: Formats
    images: Sequence[Tensor]
    background: Mapping[str, int] | None = None
    probes: int = 8
    seed: int = 0
    progress: Progress = field(default=silent)

    @property
    def image_count(self) -> int:
        """How many images there are."""
        return sum(len(images) for images in self.images)

    def set_background(self) -> None:
        """Put the whole graph into the state in which single groups are changed."""
        if self.background is None:
            self.formats.all_float()
        else:
            self.formats.set_all(self.background)

    def background_of(self, group: Group) -> int:
        """The width of a group while others are measured."""
        return FLOAT if self.background is None else self.background[group.name]
