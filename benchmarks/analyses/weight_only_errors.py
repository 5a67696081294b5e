"""The errors that rounded weights make, layer by layer, in the units of the float model.

Methods that fold channel scales rewrite a layer's weight W [O, K] to diag(ρ) W diag(κ) before it is
rounded: its outputs grow by ρ, its inputs shrink by κ. Errors are taken back to where the float model has
them, so that methods can be compared. With Q the rounded weight, W_r the rewritten one, and x, y what the
float layer reads and returns::

    weight error      ‖diag(1/ρ) (Q − W_r) diag(1/κ)‖ / ‖W‖
    output error      ‖diag(1/ρ) (y_q − y_r)‖ / ‖y‖         over all images and tokens

The layer alone (``output``) reads what it reads in the float model; behind the quantized prefix
(``accumulated``) it reads what the rounded layers in front of it have left. ρ is the ratio of the outputs'
standard deviations, κ that of the columns' norms; where they do not explain W_r (a rotation, say), errors
stay relative to the rewritten layer.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, fx

from benchmarks.analyses.weight_only_float import ChannelSums, FloatLayer
from quant.calibrated import CalibratedGraph
from quant.graph.nodes import constant_name, tensor_of
from quant.placement import Site
from quant.tuning.stream import Stream

__all__ = ["LayerErrors", "decibels", "layer_errors"]

_ALIKE = 1e-3
"""Largest ‖W_r − diag(ρ) W diag(κ)‖ / ‖W_r‖; float32 statistics leave some 1e-6."""


@dataclass(frozen=True)
class LayerErrors:
    """Errors of one layer, relative: 0.01 is one percent.

    Attributes:
        name: the layer.
        site: the name of its weight's fake-quant layer.
        bits: width of a code.
        group: weights that share a scale along the inputs; None where there is one for a channel or a tensor.
        shape: of the weight.
        scales: how many scales it has.
        zero_points: whether each of these comes with a zero point of its own.
        weight: error of the weight.
        weight_so_far: error of all weights up to this one, as one vector.
        output: error of the output of the layer alone.
        accumulated: error of the output behind the quantized prefix.
        explained: whether the errors are those in the units of the float model.
    """

    name: str
    site: str
    bits: int
    group: int | None
    shape: tuple[int, ...]
    scales: int
    zero_points: bool
    weight: float
    weight_so_far: float
    output: float
    accumulated: float
    explained: bool

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return math.prod(self.shape)


def decibels(error: float) -> float:
    """The signal-to-noise ratio of a relative error, −20 log10(error), in dB."""
    return -20 * math.log10(error) if error > 0 else math.inf


@torch.no_grad()
def layer_errors(
    calibrated: CalibratedGraph, layers: Iterable[FloatLayer], batches: Iterable[Tensor]
) -> tuple[LayerErrors, ...]:
    """Compare every layer whose weight is rounded with the float model's.

    Args:
        calibrated: frozen and quantizing.
        layers: what :func:`benchmarks.analyses.weight_only_float.float_layers` gives for the same images.
        batches: images [B, ...].
    """
    sites = {site.node: site for site in calibrated.weight_sites()}
    twins = {node.name: node for node in calibrated.reference.graph.nodes}
    by_name = {layer.node: layer for layer in layers}
    found: dict[fx.Node, _Collector] = {}
    for node in calibrated.graph.graph.nodes:
        if node.name in by_name and node.args[1] in sites:
            twin = twins[node.name]
            exact = tensor_of(calibrated.reference, str(constant_name(twin.args[1]))).detach()
            found[node] = _Collector(by_name[node.name], sites[node.args[1]], exact)
    for images in batches:
        quantized, reference = Stream(calibrated.graph, [images]), Stream(calibrated.reference, [images])
        for node in calibrated.graph.graph.nodes:
            quantized.run(node)
            twin = twins.get(node.name)
            if twin is not None:
                reference.run(twin)
            if node in found:
                assert twin is not None
                found[node].update(node, quantized, twin, reference)
            if twin is not None:
                reference.release(twin)
            quantized.release(node)
    results = []
    noise = energy = 0.0
    for collector in found.values():
        own_noise, own_energy = collector.weight_error()
        noise, energy = noise + own_noise, energy + own_energy
        results.append(collector.result(_share(own_noise, own_energy), _share(noise, energy)))
    return tuple(results)


class _Collector:
    """The errors of one layer, batch by batch."""

    def __init__(self, layer: FloatLayer, site: Site, exact: Tensor) -> None:
        self._layer, self._site, self._exact = layer, site, exact
        self._alone, self._accumulated, self._outputs = ChannelSums(), ChannelSums(), ChannelSums()
        self._rounded: Tensor | None = None

    def update(self, node: fx.Node, quantized: Stream, twin: fx.Node, reference: Stream) -> None:
        """Add a batch; both streams have just run the layer."""
        weight, bias = [*node.args, None][1:3]
        self._rounded = quantized.get(weight)[0]  # type: ignore[arg-type]
        bias = None if bias is None else quantized.get(bias)[0]  # type: ignore[arg-type]
        y = reference.get(twin)[0]
        read = reference.get(twin.args[0])[0]  # type: ignore[arg-type]
        alone = node.target(read, self._rounded, bias, *node.args[3:])  # type: ignore[operator]
        axis = self._layer.axis
        self._alone.update(alone - y, axis)
        self._accumulated.update(quantized.get(node)[0] - y, axis)
        self._outputs.update(y, axis)

    def weight_error(self) -> tuple[float, float]:
        """‖E‖² and ‖W‖²."""
        rows, columns = self._factors or (1.0, 1.0)
        exact = self._exact if self._factors is None else self._layer.weight
        assert self._rounded is not None
        error = (self._rounded - self._exact).flatten(1).double() / rows / columns
        return float(error.square().sum()), float(exact.double().square().sum())

    def result(self, weight: float, so_far: float) -> LayerErrors:
        """The figures."""
        factors = self._factors
        rows = torch.ones(()) if factors is None else factors[0].squeeze(1)
        energy = float((self._outputs if factors is None else self._layer.outputs).energy.sum())
        grid, spec = self._site.quantizer.qparams, self._site.spec
        return LayerErrors(
            name=self._layer.name,
            site=self._site.name,
            bits=spec.bits,
            group=spec.group_size,
            shape=tuple(self._exact.shape),
            scales=grid.scale.numel(),
            zero_points=not spec.symmetric,
            weight=weight,
            weight_so_far=so_far,
            output=_share(float((self._alone.energy / rows**2).sum()), energy),
            accumulated=_share(float((self._accumulated.energy / rows**2).sum()), energy),
            explained=factors is not None,
        )

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor] | None:
        """ρ [O, 1] and κ [K], or None where they do not explain the rewritten weight."""
        before, after = self._layer.outputs.variance, self._outputs.variance
        rows = torch.where((before > 0) & (after > 0), (after / before).sqrt(), 1.0)[:, None]
        old, new = (w.detach().flatten(1).double() for w in (self._layer.weight, self._exact))
        norms = [w.square().sum(0) for w in (old, new / rows)]
        columns = torch.where((norms[0] > 0) & (norms[1] > 0), (norms[1] / norms[0]).sqrt(), 1.0)
        rest = (new - rows * old * columns).norm()
        return (rows, columns) if float(rest) <= _ALIKE * float(new.norm()) else None


def _share(noise: float, energy: float) -> float:
    if energy == 0:
        return 0.0 if noise == 0 else math.inf
    return math.sqrt(noise / energy)
