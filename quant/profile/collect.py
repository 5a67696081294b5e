"""The running figures of one layer or block."""

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, tensor_of
from quant.methods.outlier_side_path import CLIPPED_UNITS
from quant.profile.figures import (
    OUTLIER_SIGMAS,
    Comparison,
    Isolated,
    LayerProfile,
    WeightProfile,
)
from quant.profile.histogram import PairHistogram
from quant.profile.inputs import InputCollector
from quant.profile.layers import Layer, quantizer_at
from quant.profile.moments import PairMoments, decibels, energy, pieces

__all__ = ["Comparer", "LayerCollector"]


class Comparer:
    """Collects a :class:`Comparison`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._moments = PairMoments()
        self._histogram = PairHistogram()

    def update(self, x: Tensor, y: Tensor) -> None:
        """Compare the float value with the quantized value of one batch."""
        for a, b in pieces(x, y):
            self._histogram.update(a, b, self._name)
            self._moments.update(a, b)

    @property
    def signal(self) -> float:
        """Σ x² of the float values."""
        return self._moments.signal

    def result(self) -> Comparison:
        """The figures so far."""
        moments, histogram = self._moments, self._histogram.result()
        mean, sigma = moments.float_spread
        mean_q, sigma_q = moments.quantized_spread
        return Comparison(
            qsnr_db=moments.qsnr_db,
            mse=moments.mse,
            cosine=moments.cosine,
            kl=histogram.kl(sigma),
            float_outliers=histogram.outside(histogram.float_counts, mean, OUTLIER_SIGMAS * sigma),
            quantized_outliers=histogram.outside(
                histogram.quantized_counts, mean_q, OUTLIER_SIGMAS * sigma_q
            ),
            histogram=histogram,
        )


class LayerCollector:
    """Collects a :class:`LayerProfile`."""

    def __init__(self, layer: Layer, reference: fx.GraphModule, graph: fx.GraphModule) -> None:
        self._layer, self._graph = layer, graph
        self._output = Comparer(layer.name)
        self._noise = self._weight_noise = self._input_noise = 0.0
        self._count = 0
        self._error: Tensor | float = 0.0  # sum over images and positions, [O]
        self._weight = _weight(layer, reference, graph)
        self._input: InputCollector | None = None
        if layer.has_weight:
            clipped = layer.operator.meta.get(CLIPPED_UNITS, ())
            self._input = InputCollector(layer.source, layer.channel_axis, clipped)

    def update(self, known: dict[fx.Node, Tensor], x: Tensor, y: Tensor) -> None:
        """Add one batch.

        Args:
            known: the float graph's value of each node of the layer's boundary and of its modules, and the
                quantized graph's value of its constants.
            x: its output in the float graph.
            y: its output in the quantized graph.
        """
        layer = self._layer
        self._output.update(x, y)
        entering = {node: value for node, value in known.items() if node not in layer.modules}
        values = layer.run(self._graph, entering, quantize_inputs=True)
        partly = x
        if self._weight is not None:
            partly = layer.run(self._graph, known, quantize_inputs=False)[layer.output]
            self._weight_noise += energy(partly - x)
        error = values[layer.output] - x
        self._input_noise += energy(values[layer.output] - partly)
        self._noise += energy(error)
        self._count += error.numel()
        rows = error.movedim(layer.channel_axis, -1).reshape(-1, error.shape[layer.channel_axis])
        self._error = self._error + rows.sum(0, dtype=torch.float64)
        if self._input is not None:
            node = layer.operator.args[0]
            assert isinstance(node, fx.Node)
            quantizer = quantizer_at(self._graph, node)
            source = node if quantizer is None else node.all_input_nodes[0]
            self._input.update(values[source], values[node], quantizer)

    def result(self) -> LayerProfile:
        """The figures so far."""
        parts = self._weight_noise + self._input_noise
        shift = 0.0
        if self._noise:
            assert isinstance(self._error, Tensor)
            per_channel = self._count / len(self._error)  # n
            shift = float((self._error**2).sum()) / per_channel / self._noise
        return LayerProfile(
            name=self._layer.name,
            kind=self._layer.kind,
            output=self._output.result(),
            isolated=Isolated(
                qsnr_db=decibels(self._output.signal, self._noise),
                weight_share=self._weight_noise / parts if parts else 0.0,
                mean_shift=shift,
            ),
            weight=self._weight,
            input=None if self._input is None else self._input.result(),
        )


def _weight(layer: Layer, reference: fx.GraphModule, graph: fx.GraphModule) -> WeightProfile | None:
    quantizer = quantizer_at(graph, layer.operator.args[1])
    if quantizer is None or not layer.has_weight:
        return None
    (source,) = layer.operator.args[1].all_input_nodes  # type: ignore[union-attr]
    name = str(constant_name(source))
    exact = tensor_of(reference, name)
    noise = quantizer(tensor_of(graph, name)) - exact
    return WeightProfile(
        quantizer.spec.bits, quantizer.spec.granularity, decibels(energy(exact), energy(noise))
    )
