"""Compare the torch fake-quant model with the exported one, layer by layer and end to end."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from export.lower import LoweringReport
from export.parity.cut import LayerEnds, cut_model, layer_ends
from export.parity.report import HALF_LIMITS, LIMITS, EndToEnd, LayerParity, ParityReport
from export.settings import ExportSettings
from export.targets import Target
from quant.calibrate import CalibratedGraph
from quant.encoding import freeze
from quant.errors import Unsupported
from quant.fake_quantize import FakeQuantize, FakeQuantState
from quant.graph.nodes import is_call
from quant.kernels import quantize_codes
from quant.placement import Site
from quant.qparams import QParams
from quant.roles import RELUS
from quant.watch import watch

__all__ = ["check_parity"]

LAYER_IMAGES = 8
HALF_NUDGE = 2.0**-11
"""Relative rounding error of float16."""


@torch.no_grad()
def check_parity(
    calibrated: CalibratedGraph,
    report: LoweringReport,
    float_graph: fx.GraphModule,
    model: Path,
    target: Target,
    images: Tensor,
    settings: ExportSettings,
) -> ParityReport:
    """Run both models on the same images.

    Targets that this machine's ONNX Runtime does not execute as their own does are checked with its
    optimizations off, where the Q/DQ operators are computed as the ONNX specification defines them.

    Args:
        calibrated: the fake-quant graph, quantizing in the target's formats since lowering.
        report: what lowering returned.
        float_graph: the captured float graph.
        model: the lowered file.
        target: its target.
        images: [N, C, H, W].
        settings: ``parity`` says whether a failure is an error.

    Raises:
        Unsupported: the models differ more than allowed; the message names the first layer.
    """
    freeze(calibrated, target.encoding(_guard_word(report)))
    proto = onnx.load(model)
    modes = [Optimization.OFF, *([Optimization.ALL] if target.runs_here else [])]
    images = images[: settings.parity_images]
    logits = _batched(calibrated.graph, images)
    nudged = _nudged(calibrated, images, target.half_remainder)
    reference = _batched(float_graph, images)
    few = images[:LAYER_IMAGES]
    values, results = _torch_layers(calibrated, report.frozen, few)
    layers: list[LayerParity] = []
    end_to_end = []
    for mode in modes:
        layers += _compare_layers(calibrated, report.frozen, proto, mode, values, results, target)
        got = _run_model(proto.SerializeToString(), mode, images.numpy())
        same = float((got.argmax(1) == logits.argmax(1)).mean())
        end_to_end.append(EndToEnd(mode.value, _sqnr(logits, got), _sqnr(reference, got), same))
    result = ParityReport(
        target=target.name,
        images=len(images),
        layer_images=len(few),
        flip_floor_db=_sqnr(logits, nudged),
        layers=layers,
        end_to_end=end_to_end,
        note="" if target.runs_here else f"Optimized kernels of {target.name} were not run on this machine.",
    )
    if settings.parity == "fail" and result.failure is not None:
        raise Unsupported(f"{target.name}: {result.failure}. {_advice(report)}")
    return result


def _nudged(calibrated: CalibratedGraph, images: Tensor, half: bool) -> NDArray[np.float64]:
    """Logits of the fake-quant model when each quantizer flips as many codes as the layer check allows.

    A change uniform in ± a codes moves a value across a rounding edge with probability a / 2. For a float16
    remainder, what quantizers read changes by its relative rounding error instead.
    """
    generator = torch.Generator().manual_seed(0)

    def change(quantizer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        random = torch.empty(x.shape).uniform_(-1, 1, generator=generator)
        assert isinstance(quantizer, FakeQuantize)
        nudge = x * HALF_NUDGE if half else 2 * LIMITS.share * quantizer.qparams.scale
        return (x + nudge * random,)

    hooks = [
        site.quantizer.register_forward_pre_hook(change)
        for site in calibrated.activation_sites()
        if site.quantizer.state is FakeQuantState.QUANTIZING
    ]
    try:
        return _batched(calibrated.graph, images)
    finally:
        for hook in hooks:
            hook.remove()


def _guard_word(report: LoweringReport) -> str:
    return {"none": "off", "pairs": "on"}.get(report.guard, report.guard)


def _advice(report: LoweringReport) -> str:
    if report.guard == "none" and report.target == "ort-x86":
        return "On a CPU without VNNI 8-bit weights need 'saturation_guard: on'"
    return "Set 'parity: warn' under 'export' to write the model all the same"


def _layers(calibrated: CalibratedGraph, frozen: dict[str, QParams]) -> Iterator[tuple[Site, Site, fx.Node]]:
    """Activation site, weight site and node of every layer that both quantize."""
    by_node = {site.node: site for site in calibrated.activation_sites() if site.name in frozen}
    for weight in calibrated.weight_sites():
        for layer in weight.node.users:
            activation = by_node.get(layer.args[0])  # type: ignore[call-overload]
            if activation is not None:
                yield activation, weight, layer


@dataclass(frozen=True, eq=False)
class _Result:
    """What a layer returns in torch.

    Attributes:
        value: the result, behind its own output's quantizer if it has one.
        step: the size of one code: that quantizer's scale, else 8 bits over the result's range.
    """

    value: NDArray[np.float32]
    step: float


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


def _torch_layers(
    calibrated: CalibratedGraph, frozen: dict[str, QParams], images: Tensor
) -> tuple[dict[str, Tensor], dict[str, _Result]]:
    """Input of every activation site, and result of every layer by the name of its weight's site."""
    inputs: dict[fx.Node, list[str]] = {}
    outputs: dict[fx.Node, list[tuple[str, float | None]]] = {}
    for activation, weight, layer in _layers(calibrated, frozen):
        inputs.setdefault(activation.node.args[0], []).append(activation.name)  # type: ignore[arg-type]
        site = _output_site(calibrated, frozen, layer)
        step = None if site is None else float(frozen[site.name].scale)
        outputs.setdefault(layer if site is None else site.node, []).append((weight.name, step))
    values: dict[str, Tensor] = {}
    results: dict[str, _Result] = {}

    def see(node: fx.Node, value: Tensor) -> None:
        values.update(dict.fromkeys(inputs.get(node, []), value))
        for name, step in outputs.get(node, []):
            spread = max(float(value.max() - value.min()), 1e-12) / 255
            results[name] = _Result(value.numpy(), spread if step is None else step)

    watch(calibrated.graph, [*inputs, *outputs], images, see)
    return values, results


def _compare_layers(
    calibrated: CalibratedGraph,
    frozen: dict[str, QParams],
    proto: onnx.ModelProto,
    mode: Optimization,
    values: dict[str, Tensor],
    results: dict[str, _Result],
    target: Target,
) -> list[LayerParity]:
    half = target.half_remainder
    found: list[tuple[Site, Site, LayerEnds]] = [
        (activation, weight, layer_ends(proto.graph, activation.name, weight.name))
        for activation, weight, _ in _layers(calibrated, frozen)
    ]
    feeds: dict[str, NDArray[Any]] = {}
    own: dict[str, NDArray[Any]] = {}
    for activation, _, ends in found:
        array = values[activation.name].numpy()
        feeds[ends.values] = array.astype(np.float16) if half else array
        seen = torch.from_numpy(feeds[ends.values].astype(np.float32))
        qparams = frozen[activation.name]
        own[ends.codes] = (
            quantize_codes(seen, qparams).numpy().astype(np.uint8 if qparams.qmin >= 0 else np.int8)
        )
    codes = _run_cut(proto, mode, feeds, [ends.codes for *_, ends in found])
    outputs = _run_cut(proto, mode, own, [ends.result for *_, ends in found])
    layers = []
    for _, weight, ends in found:
        result, step = results[weight.name].value, results[weight.name].step
        if ends.patches:
            result = np.moveaxis(result, 1, -1)
        differ_in, most_in = _distance(own[ends.codes], codes[ends.codes])
        got = outputs[ends.result].astype(np.float64).reshape(result.shape)
        differ_out, most_out = _distance(np.rint(result / step), np.rint(got / step))
        limits = HALF_LIMITS if half else LIMITS
        layers.append(LayerParity(weight.layer, mode.value, differ_in, most_in, differ_out, most_out, limits))
    return layers


def _distance(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, int]:
    """Share of the codes that differ, and the largest difference."""
    difference = np.abs(a.astype(np.int64) - b.astype(np.int64))
    return float((difference > 0).mean()), int(difference.max(initial=0))


def _run_cut(
    proto: onnx.ModelProto, mode: Optimization, feeds: dict[str, NDArray[Any]], outputs: list[str]
) -> dict[str, NDArray[Any]]:
    cut = cut_model(proto, feeds, outputs)
    session = _session(cut.model.SerializeToString(), mode)
    return dict(zip(cut.outputs, session.run(list(cut.outputs), feeds), strict=True))


def _run_model(model: bytes, mode: Optimization, images: NDArray[np.float32]) -> NDArray[np.float64]:
    session = _session(model, mode)
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: images[i : i + LAYER_IMAGES]})[0]
        for i in range(0, len(images), LAYER_IMAGES)
    ]
    return np.concatenate(parts).astype(np.float64)


def _session(model: bytes, mode: Optimization) -> Any:
    return build_session(model, SessionSettings(optimization=mode, intra_op_threads=torch.get_num_threads()))


def _batched(graph: fx.GraphModule, images: Tensor) -> NDArray[np.float64]:
    parts = [graph(images[i : i + LAYER_IMAGES]) for i in range(0, len(images), LAYER_IMAGES)]
    return torch.cat(parts).double().numpy()


def _sqnr(reference: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """10 log10(Σ r² / Σ (r − x)²), in dB."""
    error = float(((reference - values) ** 2).sum())
    return float(10 * np.log10((reference**2).sum() / max(error, 1e-30)))
