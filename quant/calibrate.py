"""From a captured float graph to a calibrated one.

Graph methods, fake-quant layers, one pass over the images, then the methods that tune what was calibrated.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx

from quant.calibrated import CalibratedGraph, Knowledge
from quant.encoding import Encoding, freeze, set_quantizing
from quant.errors import BadInput
from quant.graph.originals import restore_originals
from quant.integer.attach import attach_integer_layers
from quant.methods import GraphMethod, LayerMethod, MethodNote, Statistics, make_method
from quant.methods.collect import collect_statistics
from quant.methods.outlier_side_path import CLIPPED_UNITS
from quant.placement import check_groups, place_fake_quant
from quant.progress import Progress, silent
from quant.recipe import Recipe
from quant.tuning.checkpoint import Checkpoint
from quant.tuning.model import Tuning
from quant.tuning.parameters import TunedParameters
from quant.tuning.walk import walk

__all__ = ["Batches", "CalibratedGraph", "calibrate", "check_methods", "prepare"]

Batches = Callable[[int | None], Iterable[Tensor]]
"""Called with how many images are wanted (None: all), gives them in batches [B, C, H, W]."""


def calibrate(
    graph: fx.GraphModule,
    recipe: Recipe,
    batches: Batches,
    progress: Progress = silent,
    checkpoint: Checkpoint | None = None,
) -> CalibratedGraph:
    """Prepare a copy of ``graph``, show it the calibration images once, and tune it.

    Where the recipe asks for mixed precision, the widths are chosen first; the result's recipe is the
    ordinary one that it amounts to.

    Statistics of graph methods come from the first ``recipe.method_images`` images, in a pass of their own.
    Memory does not depend on the number of images; methods that tune hold ``recipe.tuning_images`` of them.

    Args:
        graph: a captured float graph; it is not changed.
        recipe: what to do.
        batches: the calibration images.
        progress: told images and layers as they are done.
        checkpoint: where methods that train keep their state, to go on with after an interruption.

    Raises:
        BadInput: there are no images, the recipe matches nothing, or activations hold NaN or infinity
            (naming the layer).
    """
    check_methods(recipe)
    if recipe.mixed_precision is not None:
        from quant.mixed.resolve import resolve  # which calibrates, too

        recipe = resolve(recipe, graph, batches, progress)
    float_graph = copy.deepcopy(graph)
    ranges = {}
    findings: dict[str, Tensor] = {}

    def collect(index: int, methods: Sequence[GraphMethod]) -> Statistics:
        count = recipe.method_images
        done = _counter(progress, "statistics")
        seen, images = collect_statistics(float_graph, methods, batches(count), count, done)
        if images == 0 and any(method.watched(float_graph) for method in methods):
            _require_images(0)
        ranges.update({f"{index}/{node.name}": bounds for node, bounds in seen.ranges.items()})
        seen.findings = findings
        return seen

    calibrated = _prepare(float_graph, recipe, collect)
    calibrated = replace(calibrated, knowledge=Knowledge(ranges, findings))
    images = _observe(calibrated, batches(None), _counter(progress, "calibrating"))
    return _tune(replace(calibrated, images=images), batches, progress, checkpoint or Checkpoint())


def prepare(graph: fx.GraphModule, recipe: Recipe, knowledge: Knowledge) -> CalibratedGraph:
    """Apply the recipe's graph methods to ``graph`` and place the fake-quant layers, in place.

    Args:
        graph: a captured float graph.
        recipe: what to do.
        knowledge: what the methods learned from images.
    """

    def recall(index: int, methods: Sequence[GraphMethod]) -> Statistics:
        del methods
        named = {f"{index}/{node.name}": node for node in graph.graph.nodes}
        ranges = {named[name]: bounds for name, bounds in knowledge.ranges.items() if name in named}
        return Statistics(ranges, {}, dict(knowledge.findings))

    return replace(_prepare(graph, recipe, recall), knowledge=knowledge)


def check_methods(recipe: Recipe) -> None:
    """Find methods and options that do not exist, and a wrong order.

    A graph method that only approximates what it replaces (``changes_function = True``) must be the last
    one: the float reference would miss what later ones change there.

    Raises:
        BadInput: naming the method or the option.
    """
    inexact = None
    for settings in recipe.methods:
        method = make_method(settings.name, settings.options)
        if isinstance(method, GraphMethod):
            if inexact is not None:
                raise BadInput(
                    f"method '{inexact}' changes what the graph computes, so it must stand behind every "
                    f"other method that rewrites the graph: put it behind '{settings.name}'"
                )
            if getattr(method, "changes_function", False):
                inexact = settings.name


def _prepare(
    graph: fx.GraphModule, recipe: Recipe, statistics: Callable[[int, Sequence[GraphMethod]], Statistics]
) -> CalibratedGraph:
    check_groups(graph, recipe)
    notes: list[MethodNote] = []
    for index, methods in enumerate(_passes(recipe)):
        seen = statistics(index, methods)
        for method in methods:
            notes += method.apply(graph, seen, recipe)
    reference = _sharing_copy(graph)
    restore_originals(reference)
    sites = place_fake_quant(graph, recipe)
    notes += attach_integer_layers(graph, sites)
    if not any(site.is_weight for site in sites):
        raise BadInput(
            f"recipe '{recipe.name}' quantizes no layer of this model; check its roles, include and exclude"
        )
    for site in sites:
        for reader in site.node.users:
            if CLIPPED_UNITS in reader.meta and not site.is_weight:
                site.quantizer.ignore_channels(reader.meta[CLIPPED_UNITS])
    return CalibratedGraph(graph, sites, recipe, reference, notes=notes)


def _passes(recipe: Recipe) -> list[list[GraphMethod]]:
    """The graph methods, cut behind each one that makes the statistics stale."""
    passes: list[list[GraphMethod]] = [[]]
    for settings in recipe.methods:
        method = make_method(settings.name, settings.options)
        if isinstance(method, GraphMethod):
            passes[-1].append(method)
            if getattr(method, "renews_statistics", False):
                passes.append([])
    return [methods for methods in passes if methods]


def _sharing_copy(graph: fx.GraphModule) -> fx.GraphModule:
    """A copy whose parameters and buffers are the same tensors, until one graph replaces its own."""
    shared = {id(t): t for t in (*graph.parameters(), *graph.buffers())}
    return copy.deepcopy(graph, shared)


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


def _tune(
    calibrated: CalibratedGraph, batches: Batches, progress: Progress, checkpoint: Checkpoint
) -> CalibratedGraph:
    """Let layer and model methods work, in order, on the graph quantizing in the recipe's own formats."""
    recipe = calibrated.recipe
    methods = [m for s in recipe.methods if not isinstance(m := make_method(s.name, s.options), GraphMethod)]
    if not methods:
        return calibrated
    freeze(calibrated, Encoding())
    tuning = Tuning(
        graph=calibrated.graph,
        reference=calibrated.reference,
        sites=calibrated.sites,
        parameters=TunedParameters(calibrated.graph, calibrated.changes),
        batches=list(batches(recipe.tuning_images)),
        seed=recipe.seed,
        progress=progress,
        checkpoint=checkpoint,
    )
    notes: list[MethodNote] = []
    together: list[LayerMethod] = []
    for method in methods:
        if isinstance(method, LayerMethod):
            together.append(method)
            continue
        if together:
            notes += walk(tuning, together)
            together = []
        notes += method.tune_model(tuning)
    if together:
        notes += walk(tuning, together)
    set_quantizing(calibrated, None)
    return replace(calibrated, notes=[*calibrated.notes, *notes])


def _counter(progress: Progress, phase: str) -> Callable[[int], None]:
    """Tell running totals of images."""
    total = 0

    def count(images: int) -> None:
        nonlocal total
        total += images
        progress(phase, total, 0)

    return count


def _require_images(seen: int) -> None:
    if not seen:
        raise BadInput("the calibration set is empty; give at least one image")
