"""``CalibratedGraph``: what calibration makes and everything behind it reads."""

from dataclasses import dataclass, field

from torch import Tensor, fx

from quant.methods.registry import MethodNote
from quant.methods.statistics import ChannelRange
from quant.placement import Site
from quant.recipe import Recipe
from quant.tuning.parameters import Changes

__all__ = ["CalibratedGraph", "Knowledge"]


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What the graph methods learned from images; with it they can be applied again without any.

    Attributes:
        ranges: channel ranges by ``<pass>/<node>``.
        findings: what searches found.
    """

    ranges: dict[str, ChannelRange] = field(default_factory=dict)
    findings: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CalibratedGraph:
    """A graph with fake-quant layers that have seen the calibration images.

    Attributes:
        graph: the graph module; its fake-quant layers are OFF until :mod:`quant.encoding` freezes them.
        sites: its fake-quant layers.
        recipe: what it was made from.
        reference: the float graph behind the graph methods, before anything was tuned: the same node names
            without the fake-quant layers, the same function as the model.
        knowledge: what the graph methods learned.
        changes: what tuning changed.
        notes: what the methods did.
        images: how many images were seen.
    """

    graph: fx.GraphModule
    sites: list[Site]
    recipe: Recipe
    reference: fx.GraphModule
    knowledge: Knowledge = field(default_factory=Knowledge)
    changes: Changes = field(default_factory=Changes)
    notes: list[MethodNote] = field(default_factory=list)
    images: int = 0

    def weight_sites(self) -> list[Site]:
        """The sites of weights."""
        return [site for site in self.sites if site.is_weight]

    def activation_sites(self) -> list[Site]:
        """The sites of activations."""
        return [site for site in self.sites if not site.is_weight]
