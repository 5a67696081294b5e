"""From a captured float graph to a calibrated one: methods, fake-quant layers, one pass over the images."""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx

from quant.errors import BadInput
from quant.graph.nodes import module_of
from quant.methods import ChannelRange, MethodNote, Ranges, make_method
from quant.methods.outlier_side_path import CLIPPED_UNITS
from quant.observers import make_observer
from quant.placement import Site, place_fake_quant
from quant.recipe import Recipe
from quant.spec import QuantSpec
from quant.watch import watch

__all__ = ["Batches", "CalibratedGraph", "calibrate", "prepare"]

Batches = Callable[[int | None], Iterable[Tensor]]
"""Called with how many images are wanted (None: all), gives them in batches [B, C, H, W]."""


@dataclass(frozen=True, eq=False)
class CalibratedGraph:
    """A graph with fake-quant layers that have seen the calibration images.

    Attributes:
        graph: the graph module; its fake-quant layers are OFF until :mod:`quant.encoding` freezes them.
        sites: its fake-quant layers.
        recipe: what it was made from.
        ranges: what the methods' statistics were, by node name.
        notes: what the methods did.
        images: how many images were seen.
    """

    graph: fx.GraphModule
    sites: list[Site]
    recipe: Recipe
    ranges: dict[str, ChannelRange] = field(default_factory=dict)
    notes: list[MethodNote] = field(default_factory=list)
    images: int = 0

    def weight_sites(self) -> list[Site]:
        """The sites of weights."""
        return [site for site in self.sites if site.is_weight]

    def activation_sites(self) -> list[Site]:
        """The sites of activations."""
        return [site for site in self.sites if not site.is_weight]


def calibrate(
    graph: fx.GraphModule,
    recipe: Recipe,
    batches: Batches,
    progress: Callable[[int], None] = lambda _: None,
) -> CalibratedGraph:
    """Prepare a copy of ``graph`` and show it the calibration images once.

    The methods' own statistics come from the first ``recipe.method_images`` images, in a pass of their own.
    Memory does not depend on the number of images.

    Args:
        graph: a captured float graph; it is not changed.
        recipe: what to do.
        batches: the calibration images.
        progress: told the number of images of each batch when it is done, in both passes.

    Raises:
        BadInput: there are no images, the recipe matches nothing, or activations hold NaN or infinity
            (naming the layer).
    """
    float_graph = copy.deepcopy(graph)
    ranges = _channel_ranges(float_graph, recipe, batches(recipe.method_images), progress)
    calibrated = prepare(float_graph, recipe, ranges)
    images = _observe(calibrated, batches(None), progress)
    return replace(calibrated, images=images)


def prepare(graph: fx.GraphModule, recipe: Recipe, ranges: Mapping[str, ChannelRange]) -> CalibratedGraph:
    """Apply the recipe's methods to ``graph`` and place the fake-quant layers, in place.

    Args:
        graph: a captured float graph.
        recipe: what to do.
        ranges: by node name, of every node that the methods watch.
    """
    by_node: Ranges = {node: ranges[node.name] for node in graph.graph.nodes if node.name in ranges}
    notes: list[MethodNote] = []
    for settings in recipe.methods:
        notes += make_method(settings.name, settings.options).apply(graph, by_node, recipe)
    sites = place_fake_quant(graph, recipe)
    if not any(site.is_weight for site in sites):
        raise BadInput(
            f"recipe '{recipe.name}' quantizes no layer of this model; check its roles, include and exclude"
        )
    for site in sites:
        for reader in site.node.users:
            if CLIPPED_UNITS in reader.meta and not site.is_weight:
                site.quantizer.ignore_channels(reader.meta[CLIPPED_UNITS])
    return CalibratedGraph(graph, sites, recipe, dict(ranges), notes)


def _channel_ranges(
    graph: fx.GraphModule, recipe: Recipe, batches: Iterable[Tensor], progress: Callable[[int], None]
) -> dict[str, ChannelRange]:
    methods = [make_method(settings.name, settings.options) for settings in recipe.methods]
    watched = {node for method in methods for node in method.watched(graph)}
    observers = {
        node: make_observer(QuantSpec(granularity="per_channel", axis=-1), module_of(node) or node.name)
        for node in watched
    }
    if not watched:
        return {}
    seen = 0
    for images in batches:
        watch(graph, watched, images, lambda node, value: observers[node].update(value))
        seen += len(images)
        progress(len(images))
    _require_images(seen)
    ranges = {}
    for node, observer in sorted(observers.items(), key=lambda item: item[0].name):
        low, high = observer.range()
        ranges[node.name] = ChannelRange(low.float(), high.float())
    return ranges


@torch.no_grad()
def _observe(calibrated: CalibratedGraph, batches: Iterable[Tensor], progress: Callable[[int], None]) -> int:
    seen = 0
    for site in calibrated.sites:
        site.quantizer.observe()
    for images in batches:
        calibrated.graph(images)
        for site in calibrated.weight_sites():  # a weight is the same in every batch
            site.quantizer.off()
        seen += len(images)
        progress(len(images))
    for site in calibrated.sites:
        site.quantizer.off()
    _require_images(seen)
    return seen


def _require_images(seen: int) -> None:
    if not seen:
        raise BadInput("the calibration set is empty; give at least one image")
