"""Compare the torch fake-quant model with the exported one, layer by layer and end to end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from export.lower import LoweringReport
from export.parity.cut import LayerEnds, cut_model, layer_ends
from export.parity.report import EndToEnd, LayerParity, ParityReport
from export.settings import ExportSettings
from export.targets import Target
from quant.calibrate import CalibratedGraph
from quant.encoding import freeze
from quant.errors import Unsupported
from quant.kernels import quantize_codes
from quant.placement import Site
from quant.qparams import QParams
from quant.watch import watch

__all__ = ["check_parity"]

LAYER_IMAGES = 8
NUDGE = 1e-7
"""Relative change of the input that measures the flip floor: about one unit in the last place of float32."""


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
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    nudged = _batched(calibrated.graph, images * (1 + NUDGE * noise))
    reference = _batched(float_graph, images)
    few = images[:LAYER_IMAGES]
    values, expected = _torch_layers(calibrated, report.frozen, few)
    layers: list[LayerParity] = []
    end_to_end = []
    for mode in modes:
        layers += _compare_layers(calibrated, report.frozen, proto, mode, values, expected, target)
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


def _result_node(calibrated: CalibratedGraph, frozen: dict[str, QParams], layer: fx.Node) -> fx.Node:
    """The node whose value the exported layer returns: behind its own output's quantizer, if it has one."""
    sites = {site.node: site for site in calibrated.activation_sites() if site.name in frozen}
    node = layer
    for _ in range(2):  # the layer itself, then an activation function behind it
        readers = list(node.users)
        if len(readers) != 1:
            break
        if readers[0] in sites:
            return readers[0] if "conv" in str(layer.target) else layer
        node = readers[0]
    return layer


def _torch_layers(
    calibrated: CalibratedGraph, frozen: dict[str, QParams], images: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Input of every activation site, and result of every layer, by site name (of the weight)."""
    inputs: dict[fx.Node, list[str]] = {}
    results: dict[fx.Node, list[str]] = {}
    for activation, weight, layer in _layers(calibrated, frozen):
        inputs.setdefault(activation.node.args[0], []).append(activation.name)  # type: ignore[arg-type]
        results.setdefault(_result_node(calibrated, frozen, layer), []).append(weight.name)
    values: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}

    def see(node: fx.Node, value: Tensor) -> None:
        values.update(dict.fromkeys(inputs.get(node, []), value))
        expected.update(dict.fromkeys(results.get(node, []), value))

    watch(calibrated.graph, [*inputs, *results], images, see)
    return values, expected


def _compare_layers(
    calibrated: CalibratedGraph,
    frozen: dict[str, QParams],
    proto: onnx.ModelProto,
    mode: Optimization,
    values: dict[str, Tensor],
    expected: dict[str, Tensor],
    target: Target,
) -> list[LayerParity]:
    half = target.half_remainder
    found: list[tuple[Site, Site, LayerEnds]] = [
        (activation, weight, layer_ends(proto.graph, activation.name, weight.name))
        for activation, weight, _ in _layers(calibrated, frozen)
    ]
    feeds: dict[str, NDArray[Any]] = {}
    for activation, _, ends in found:
        array = values[activation.name].numpy()
        feeds[ends.values] = array.astype(np.float16) if half else array
    codes = _run_cut(proto, mode, feeds, [ends.codes for *_, ends in found])
    outputs = _run_cut(proto, mode, feeds, [ends.result for *_, ends in found])
    layers = []
    for activation, weight, ends in found:
        seen = torch.from_numpy(feeds[ends.values].astype(np.float32))
        input_codes = quantize_codes(seen, frozen[activation.name]).numpy()
        result = expected[weight.name].numpy()
        if ends.patches:
            result = np.moveaxis(result, 1, -1)
        differ_in, most_in = _distance(input_codes, codes[ends.codes])
        step = max(float(result.max() - result.min()), 1e-12) / 255
        got = outputs[ends.result].astype(np.float64).reshape(result.shape)
        if half:  # float16 rounds the outputs themselves: only whole codes count
            distance = np.floor(np.abs(got - result) / step)
            differ_out, most_out = float((distance > 0).mean()), int(distance.max())
        else:
            differ_out, most_out = _distance(np.rint(result / step), np.rint(got / step))
        layers.append(LayerParity(weight.layer, mode.value, differ_in, most_in, differ_out, most_out))
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
