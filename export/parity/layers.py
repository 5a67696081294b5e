"""Compare single layers: each gets the same input in torch and in ONNX Runtime."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from export.parity.cut import cut_model, layer_ends
from export.parity.report import HALF_LIMITS, LIMITS, LayerParity
from quant.calibrated import CalibratedGraph
from quant.graph.nodes import is_call
from quant.kernels import quantize_codes
from quant.placement import Site
from quant.qparams import QParams
from quant.roles import RELUS
from quant.watch import watch

__all__ = ["TorchLayer", "compare_layers", "torch_layers"]

_FARTHEST = 2.0**31
"""Distance in codes that stands for infinity and NaN."""


@dataclass(frozen=True, eq=False)
class TorchLayer:
    """A layer of which input and weight are quantized, and what it did in torch.

    Attributes:
        activation: site of its input.
        weight: site of its weight.
        value: what its input's quantizer reads.
        result: what it returns, behind its own output's quantizer if it has one.
        step: the size of one code: that quantizer's scale, else 8 bits over the result's range.
        bias_flips: how many of the result's codes may flip because integer kernels round the bias to int32,
            0 to 1.
    """

    activation: Site
    weight: Site
    value: Tensor
    result: NDArray[np.float32]
    step: float
    bias_flips: float


def torch_layers(calibrated: CalibratedGraph, frozen: dict[str, QParams], images: Tensor) -> list[TorchLayer]:
    """Run the fake-quant model once.

    Args:
        calibrated: the fake-quant graph, quantizing.
        frozen: parameters of its active sites.
        images: [N, C, H, W].

    Returns:
        The layers in the order of execution.
    """
    found = list(_layers(calibrated, frozen))
    sites = {layer: _output_site(calibrated, frozen, layer) for *_, layer in found}
    read = {activation.node.all_input_nodes[0] for activation, *_ in found}
    written = {layer if site is None else site.node for layer, site in sites.items()}
    values: dict[fx.Node, Tensor] = {}
    watch(calibrated.graph, read | written, images, values.__setitem__)
    layers = []
    for activation, weight, layer in found:
        site = sites[layer]
        result = values[layer if site is None else site.node]
        spread = max(float(result.max() - result.min()), 1e-12) / 255
        step = spread if site is None else float(frozen[site.name].scale)
        value = values[activation.node.all_input_nodes[0]]
        flips = _bias_flips(layer, frozen[activation.name], frozen[weight.name], step)
        layers.append(TorchLayer(activation, weight, value, result.numpy(), step, flips))
    return layers


def compare_layers(
    layers: list[TorchLayer],
    frozen: dict[str, QParams],
    proto: onnx.ModelProto,
    mode: Optimization,
    half: bool,
) -> list[LayerParity]:
    """Feed every layer of the exported model what its twin got in torch: floats, and then codes.

    Args:
        layers: from :func:`torch_layers`.
        frozen: parameters of the active sites.
        proto: the exported model.
        mode: ONNX Runtime's optimizations.
        half: the model's remainder is float16.
    """
    ends = [layer_ends(proto.graph, layer.activation.name, layer.weight.name) for layer in layers]
    feeds: dict[str, NDArray[Any]] = {}
    own: dict[str, NDArray[Any]] = {}
    for layer, end in zip(layers, ends, strict=True):
        array = layer.value.numpy()
        feeds[end.values] = array.astype(np.float16) if half else array
        qparams = frozen[layer.activation.name]
        seen = torch.from_numpy(feeds[end.values].astype(np.float32))
        right = quantize_codes(seen, qparams).numpy()
        own[end.codes] = right.astype(np.uint8 if qparams.qmin >= 0 else np.int8)
    codes = _run_cut(proto, mode, feeds, [end.codes for end in ends])
    outputs = _run_cut(proto, mode, own, [end.result for end in ends])
    limits = HALF_LIMITS if half else LIMITS
    compared = []
    for layer, end in zip(layers, ends, strict=True):
        allowed = replace(limits, share=limits.share + layer.bias_flips)
        result = np.moveaxis(layer.result, 1, -1) if end.patches else layer.result
        got = outputs[end.result].astype(np.float64).reshape(result.shape)
        in_codes = np.abs(own[end.codes].astype(np.int64) - codes[end.codes])
        out_codes = np.nan_to_num(np.abs(result - got) / layer.step, nan=np.inf).clip(max=_FARTHEST)
        compared.append(
            LayerParity(
                layer=layer.weight.layer,
                mode=mode.value,
                input_differ=float((in_codes > 0).mean()),
                input_most=int(in_codes.max(initial=0)),
                inputs=in_codes.size,
                output_differ=float((out_codes > limits.equal).mean()),
                output_most=int(np.rint(out_codes.max(initial=0))),
                outputs=out_codes.size,
                limits=allowed,
            )
        )
    return compared


def _layers(calibrated: CalibratedGraph, frozen: dict[str, QParams]) -> Iterator[tuple[Site, Site, fx.Node]]:
    """Activation site, weight site and node of every layer that both quantize, in the order of execution."""
    activations = {site.node: site for site in calibrated.activation_sites() if site.name in frozen}
    weights = {site.node: site for site in calibrated.weight_sites()}
    for layer in calibrated.graph.graph.nodes:
        read = [node for node in layer.args[:2] if isinstance(node, fx.Node)]
        if len(read) == 2 and read[0] in activations and read[1] in weights:
            yield activations[read[0]], weights[read[1]], layer


def _bias_flips(layer: fx.Node, activation: QParams, weight: QParams, step: float) -> float:
    """Largest expected share of outputs that an int32 bias moves to the next code.

    It is rounded to multiples of scale_input · scale_weight, so it is off by at most half of one, and a shift
    of a fraction of a step carries that fraction of values across a rounding edge.
    """
    if len(layer.args) < 3 or layer.args[2] is None:
        return 0.0
    return 0.5 * float(activation.scale * weight.scale.mean()) / step


def _output_site(calibrated: CalibratedGraph, frozen: dict[str, QParams], layer: fx.Node) -> Site | None:
    """The quantizer of a convolution's output, directly behind it or behind its ReLU."""
    sites = {site.node: site for site in calibrated.activation_sites() if site.name in frozen}
    if not is_call(layer, torch.ops.aten.conv2d.default):
        return None
    node = layer
    for _ in range(2):
        readers = list(node.users)
        if len(readers) != 1:
            return None
        if readers[0] in sites:
            return sites[readers[0]]
        node = readers[0]
        if not is_call(node, *RELUS):
            return None
    return None


def _run_cut(
    proto: onnx.ModelProto, mode: Optimization, feeds: dict[str, NDArray[Any]], outputs: list[str]
) -> dict[str, NDArray[Any]]:
    cut = cut_model(proto, feeds, outputs)
    settings = SessionSettings(optimization=mode, intra_op_threads=torch.get_num_threads())
    session = build_session(cut.model.SerializeToString(), settings)
    return dict(zip(cut.outputs, session.run(list(cut.outputs), feeds), strict=True))
