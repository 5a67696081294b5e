"""Compare single layers: each gets the same input in torch and in ONNX Runtime."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from export.parity.bias import bias_rounding, moved_by_bias
from export.parity.cut import LayerEnds, cut_model, layer_ends
from export.parity.report import DYNAMIC_LIMITS, HALF_FP8_LIMITS, HALF_LIMITS, LIMITS, LayerParity, Limits
from quant.calibrated import CalibratedGraph
from quant.graph.nodes import constant_name, is_call, tensor_of
from quant.kernels import dequantize, quantize_codes
from quant.placement import Site
from quant.qparams import QParams
from quant.roles import RELUS
from quant.watch import watch

__all__ = ["TorchLayer", "compare_layers", "torch_layers"]

_FARTHEST = 2.0**31
"""Distance in codes that stands for infinity and NaN."""


@dataclass(frozen=True, eq=False)
class TorchLayer:
    """A layer of which the weight is quantized, and what it did in torch.

    Attributes:
        activation: site of its input; None where only the weight is quantized.
        weight: site of its weight.
        end: where it is in the exported graph.
        value: what its input's quantizer reads, or the layer itself.
        result: what it returns, behind its own output's quantizer if it has one.
        step: the size of one code: that quantizer's scale, else 8 bits over the result's range.
        bias_moves: share of the result, 0 to 1, that moves where integer kernels round the bias to int32, and
            the largest change in whole codes, rounded down.
        product: largest magnitude of the result before its bias is added.
    """

    activation: Site | None
    weight: Site
    end: LayerEnds
    value: Tensor
    result: NDArray[np.float32]
    step: float
    bias_moves: tuple[float, int]
    product: float


def torch_layers(
    calibrated: CalibratedGraph, frozen: dict[str, QParams], images: Tensor, exported: onnx.GraphProto
) -> list[TorchLayer]:
    """Run the fake-quant model once.

    Args:
        calibrated: the fake-quant graph, quantizing.
        frozen: parameters of its active sites.
        images: [N, C, H, W].
        exported: the lowered graph.

    Returns:
        The layers in the order of execution.
    """
    found = list(_layers(calibrated, frozen))
    ends = {
        layer: layer_ends(exported, activation.name if activation else None, weight.name)
        for activation, weight, layer in found
    }
    outputs = {
        layer: (None, None) if ends[layer].patches else _output_site(calibrated, frozen, layer)
        for *_, layer in found
    }
    read = {layer: (layer if site is None else site.node).all_input_nodes[0] for site, _, layer in found}
    written = set(outputs) | {site.node for site, _ in outputs.values() if site is not None}
    values: dict[fx.Node, Tensor] = {}
    watch(calibrated.graph, {*read.values(), *written}, images, values.__setitem__)
    changes = bias_roundings(calibrated, frozen)
    layers = []
    for activation, weight, layer in found:
        site, relu = outputs[layer]
        result = values[layer if site is None else site.node]
        spread = max(float(result.max() - result.min()), 1e-12) / 255
        step = spread if site is None else float(frozen[site.name].scale)
        moves = (0.0, 0)
        if layer in changes:
            behind = partial(_behind, site, relu)
            moves = moved_by_bias(changes[layer], values[layer], behind, step, LIMITS.equal)
        product = _before_bias(calibrated.graph, layer, result)
        layers.append(
            TorchLayer(
                activation,
                weight,
                ends[layer],
                values[read[layer]],
                result.numpy(),
                step,
                moves,
                product,
            )
        )
    return layers


def bias_roundings(calibrated: CalibratedGraph, frozen: dict[str, QParams]) -> dict[fx.Node, Tensor]:
    """What integer kernels add to the results of layers by rounding their biases to int32.

    Args:
        calibrated: the fake-quant graph.
        frozen: parameters of its active sites.
    """
    changes = {
        layer: bias_rounding(
            calibrated.graph, layer, None if site is None else frozen[site.name], frozen[weight.name]
        )
        for site, weight, layer in _layers(calibrated, frozen)
    }
    return {layer: change for layer, change in changes.items() if change is not None}


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
    ends = [layer.end for layer in layers]
    feeds: dict[str, NDArray[Any]] = {}
    own: dict[str, NDArray[Any]] = {}
    for layer, end in zip(layers, ends, strict=True):
        array = layer.value.numpy().astype(np.float16 if half else np.float32)
        if layer.activation is None:
            own[end.codes] = array
        else:
            feeds[end.values] = array
            own[end.codes] = _quantized(array, frozen[layer.activation.name])
    asked = [end.codes for layer, end in zip(layers, ends, strict=True) if layer.activation is not None]
    codes = _run_cut(proto, mode, feeds, asked) if asked else {}
    outputs = _results(proto, mode, own, ends)
    compared = []
    for layer, end in zip(layers, ends, strict=True):
        limits = _limits(layer, end, frozen, half)
        moved, farther = layer.bias_moves
        farther += _half_rounding(layer) if half else 0
        allowed = replace(limits, share=limits.share + moved, distance=limits.distance + farther)
        result = np.moveaxis(layer.result, 1, -1) if end.patches else layer.result
        got = outputs[end.result].astype(np.float64).reshape(result.shape)
        in_codes = np.zeros(0, np.int64)
        if layer.activation is not None:
            qparams = frozen[layer.activation.name]
            in_codes = np.abs(_ordinals(own[end.codes], qparams) - _ordinals(codes[end.codes], qparams))
        out_codes = np.nan_to_num(np.abs(result - got) / layer.step, nan=np.inf).clip(max=_FARTHEST)
        compared.append(
            LayerParity(
                layer=layer.weight.layer,
                mode=mode.value,
                input_differ=float((in_codes > 0).mean()) if in_codes.size else 0.0,
                input_most=int(in_codes.max(initial=0)),
                inputs=in_codes.size,
                output_differ=float((out_codes > limits.equal).mean()),
                output_most=int(np.rint(out_codes.max(initial=0))),
                outputs=out_codes.size,
                limits=allowed,
                far=max(_share_beyond_one(in_codes), _share_beyond_one(np.rint(out_codes))),
            )
        )
    return compared


def _limits(layer: TorchLayer, end: LayerEnds, frozen: dict[str, QParams], half: bool) -> Limits:
    if end.dynamic:
        return DYNAMIC_LIMITS
    if not half:
        return LIMITS
    fp8 = layer.activation is not None and frozen[layer.activation.name].scheme == "fp8_e4m3"
    return HALF_FP8_LIMITS if fp8 else HALF_LIMITS


def _before_bias(graph: fx.GraphModule, layer: fx.Node, result: Tensor) -> float:
    """Largest magnitude of ``result`` without the bias; where a ReLU is behind it, as far as is seen."""
    bias = layer.args[2] if len(layer.args) > 2 else None
    if bias is None:
        return float(result.abs().max())
    values = tensor_of(graph, str(constant_name(bias)))
    axis = 1 if is_call(layer, torch.ops.aten.conv2d.default) else result.ndim - 1
    shape = [len(values) if i == axis else 1 for i in range(result.ndim)]
    return float((result - values.reshape(shape)).abs().max())


def _share_beyond_one(codes: NDArray[Any]) -> float:
    return float((codes > 1).mean()) if codes.size else 0.0


def _half_rounding(layer: TorchLayer) -> int:
    """Codes by which float16 moves a result whose bias cancels most of the product.

    A bias is an operator of its own: product and bias, of the same size then, are each rounded to half a unit
    in the last place of the product.
    """
    largest = np.float16(min(layer.product, float(np.finfo(np.float16).max)))
    return int(np.ceil(float(np.spacing(largest)) / layer.step - 0.5))


def _quantized(values: NDArray[Any], qparams: QParams) -> NDArray[Any]:
    """The codes of ``values`` as ONNX holds them; of FP8, the numbers they stand for."""
    codes = quantize_codes(torch.from_numpy(values.astype(np.float32)), qparams)
    if qparams.scheme == "fp8_e4m3":
        return dequantize(codes, qparams).numpy().astype(values.dtype)
    return codes.numpy().astype(np.uint8 if qparams.qmin >= 0 else np.int8)


def _ordinals(stored: NDArray[Any], qparams: QParams) -> NDArray[np.int64]:
    """Integers of which neighbours are neighbouring codes."""
    if qparams.scheme != "fp8_e4m3":
        return stored.astype(np.int64)
    bits = quantize_codes(torch.from_numpy(stored.astype(np.float32)), qparams).numpy().astype(np.int64)
    return np.where(bits < 128, bits, 128 - bits)  # the highest bit is the sign


def _layers(
    calibrated: CalibratedGraph, frozen: dict[str, QParams]
) -> Iterator[tuple[Site | None, Site, fx.Node]]:
    """Activation site, weight site and node of every quantized layer, in the order of execution."""
    activations = {site.node: site for site in calibrated.activation_sites() if site.name in frozen}
    weights = {site.node: site for site in calibrated.weight_sites()}
    for layer in calibrated.graph.graph.nodes:
        read = [node for node in layer.args[:2] if isinstance(node, fx.Node)]
        if len(read) == 2 and read[1] in weights and weights[read[1]].name in frozen:
            yield activations.get(read[0]), weights[read[1]], layer


def _output_site(
    calibrated: CalibratedGraph, frozen: dict[str, QParams], layer: fx.Node
) -> tuple[Site | None, fx.Node | None]:
    """The quantizer of a convolution's output, directly behind it or behind its ReLU, and that ReLU."""
    sites = {site.node: site for site in calibrated.activation_sites() if site.name in frozen}
    if not is_call(layer, torch.ops.aten.conv2d.default):
        return None, None
    node, relu = layer, None
    for _ in range(2):
        readers = list(node.users)
        if len(readers) != 1:
            return None, None
        if readers[0] in sites:
            return sites[readers[0]], relu
        node = relu = readers[0]
        if not is_call(node, *RELUS):
            return None, None
    return None, None


def _behind(site: Site | None, relu: fx.Node | None, x: Tensor) -> Tensor:
    """The compared result of what a layer returns."""
    if relu is not None:
        assert callable(relu.target)
        x = relu.target(x, *relu.args[1:], **relu.kwargs)
    return x if site is None else site.quantizer(x)


def _results(
    proto: onnx.ModelProto, mode: Optimization, feeds: dict[str, NDArray[Any]], ends: list[LayerEnds]
) -> dict[str, NDArray[Any]]:
    """The layers' results; what is also the input of another layer needs a cut of its own."""
    apart = {end.result: end.codes for end in ends if end.result in feeds}
    outputs = _run_cut(proto, mode, feeds, [end.result for end in ends if end.result not in apart])
    for result, codes in apart.items():
        outputs |= _run_cut(proto, mode, {codes: feeds[codes]}, [result])
    return outputs


def _run_cut(
    proto: onnx.ModelProto, mode: Optimization, feeds: dict[str, NDArray[Any]], outputs: list[str]
) -> dict[str, NDArray[Any]]:
    cut = cut_model(proto, feeds, outputs)
    settings = SessionSettings(optimization=mode, intra_op_threads=torch.get_num_threads())
    session = build_session(cut.model.SerializeToString(), settings)
    return dict(zip(cut.outputs, session.run(list(cut.outputs), feeds), strict=True))
