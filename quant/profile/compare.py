"""Run the float graph and the quantized graph side by side, batch by batch, and compare every layer."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, fx

from quant.calibrated import CalibratedGraph
from quant.errors import BadInput
from quant.fake_quantize import FakeQuantState
from quant.profile.collect import Comparer, LayerCollector
from quant.profile.end_to_end import EndToEndCollector
from quant.profile.figures import BlockProfile, LayerProfile, OutlierLine, Profile
from quant.profile.layers import Layer, find_blocks, find_layers
from quant.tuning.stream import Stream

__all__ = ["outlier_line", "profile"]


@torch.no_grad()
def profile(
    calibrated: CalibratedGraph,
    batches: Iterable[Tensor],
    progress: Callable[[int], None] = lambda _: None,
) -> Profile:
    """Compare a quantized graph with its float reference.

    Both graphs take each batch node by node and in step, so that only the values still needed are held, of
    one batch. Every layer is seen twice: behind the quantized prefix, where errors have accumulated, and
    alone, fed with the float graph's input.

    Args:
        calibrated: frozen for a target and quantizing, as :func:`quant.encoding.freeze` leaves it.
        batches: images [B, C, H, W].
        progress: told the number of images of each batch when it is done.

    Raises:
        BadInput: there are no images, nothing is quantizing, or a layer computes NaN or infinity.
    """
    if not any(site.quantizer.state is FakeQuantState.QUANTIZING for site in calibrated.sites):
        raise BadInput("nothing in the graph is quantizing; call quant.encoding.freeze before profiling")
    run = _Run(calibrated)
    images = 0
    for batch in batches:
        run.batch(batch)
        images += len(batch)
        progress(len(batch))
    if not images:
        raise BadInput("there are no images to profile with; give at least one")
    layers = tuple(collector.result() for collector in run.layers.values())
    return Profile(
        images=images,
        layers=layers,
        blocks=tuple(BlockProfile(name, comparer.result()) for name, comparer in run.blocks.items()),
        end_to_end=run.logits.result(),
        outlier_line=outlier_line(layers),
    )


class _Run:
    def __init__(self, calibrated: CalibratedGraph) -> None:
        self._reference, self._graph = calibrated.reference, calibrated.graph
        self._twins = {node.name: node for node in self._reference.graph.nodes}
        found = find_layers(self._reference, self._graph)
        self._layers_at: dict[fx.Node, list[Layer]] = {}
        self._readers: dict[fx.Node, list[Layer]] = {}
        for layer in found:
            self._layers_at.setdefault(layer.output, []).append(layer)
            for node in (*layer.boundary, *layer.modules):
                self._readers.setdefault(node, []).append(layer)
        blocks = find_blocks(self._reference)
        self._blocks_at: dict[str, list[str]] = {}
        for name, node in blocks.items():
            self._blocks_at.setdefault(node.name, []).append(name)
        self.layers = {layer: LayerCollector(layer, self._reference, self._graph) for layer in found}
        self.blocks = {name: Comparer(name) for name in blocks}
        self.logits = EndToEndCollector()

    def batch(self, images: Tensor) -> None:
        quantized, reference = Stream(self._graph, [images]), Stream(self._reference, [images])
        waiting: dict[Layer, dict[fx.Node, Tensor]] = {layer: {} for layer in self.layers}
        for node in self._graph.graph.nodes:
            quantized.run(node)
            twin = self._twins.get(node.name)
            if twin is None:
                quantized.release(node)
                continue
            reference.run(twin)
            for layer in self._readers.get(node, ()):
                waiting[layer][node] = reference.get(twin)[0]
            for layer in self._layers_at.get(node, ()):
                x, y = reference.get(twin)[0], quantized.get(node)[0]
                known = waiting.pop(layer) | {n: quantized.get(n)[0] for n in layer.constants}
                self.layers[layer].update(known, x, y)
            for name in self._blocks_at.get(node.name, ()):
                self.blocks[name].update(reference.get(twin)[0], quantized.get(node)[0])
            if node.op == "output":
                streams = ((reference, twin), (quantized, node))
                x, y = (stream.get(out.all_input_nodes[0])[0] for stream, out in streams)
                self.logits.update(x, y)
            reference.release(twin)
            quantized.release(node)


def outlier_line(layers: Sequence[LayerProfile]) -> OutlierLine:
    """The regression of the quantized on the float outlier ratio, by least squares.

    slope = S_xy / S_xx,   intercept = ȳ − slope x̄,   r² = S_xy² / (S_xx S_yy),   S_xy = Σ (x − x̄)(y − ȳ)
    """
    x = [layer.output.float_outliers for layer in layers]
    y = [layer.output.quantized_outliers for layer in layers]
    if not x:
        return OutlierLine(math.nan, math.nan, math.nan)
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    xx = math.fsum((a - mean_x) ** 2 for a in x)
    yy = math.fsum((b - mean_y) ** 2 for b in y)
    xy = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    if xx == 0:
        return OutlierLine(math.nan, math.nan, math.nan)
    slope = xy / xx
    return OutlierLine(slope, mean_y - slope * mean_x, xy**2 / (xx * yy) if yy else math.nan)
