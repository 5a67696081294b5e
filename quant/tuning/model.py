"""What a method that tunes a whole graph is given."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, fx

from quant.placement import Site
from quant.tuning.checkpoint import Checkpoint
from quant.tuning.parameters import TunedParameters

__all__ = ["Tuning"]


@dataclass(eq=False)
class Tuning:
    """A calibrated graph, its float reference and the tuning images.

    Attributes:
        graph: quantizing in the recipe's own formats.
        reference: the float graph with the same node names, fake-quant layers left out.
        sites: all sites.
        parameters: how weights, biases, grids and ranges are changed.
        batches: the tuning images [B, C, H, W], in memory.
        seed: of every random choice.
        progress: told what is done: a phrase, steps done, steps in all.
        checkpoint: keeps the state of long trainings.
    """

    graph: fx.GraphModule
    reference: fx.GraphModule
    sites: list[Site]
    parameters: TunedParameters
    batches: list[Tensor]
    seed: int
    progress: Callable[[str, int, int], None]
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
