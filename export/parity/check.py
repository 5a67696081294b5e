"""Compare the torch fake-quant model with the exported one, layer by layer and end to end."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from export.lower import LoweringReport
from export.parity.cut import dynamic_weights
from export.parity.layers import bias_roundings, compare_layers, torch_layers
from export.parity.report import LIMITS, EndToEnd, LayerParity, ParityReport
from export.settings import ExportSettings
from export.targets import Target
from quant.calibrated import CalibratedGraph
from quant.encoding import set_quantizing
from quant.errors import Unsupported
from quant.fake_quantize import FakeQuantize, FakeQuantState
from quant.qparams import QParams

__all__ = ["check_parity"]

BATCH = 8
"""Images per call, and in the comparison of single layers, where the model leaves it open."""
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
        calibrated: the fake-quant graph; it is left quantizing in the target's formats.
        report: what lowering returned.
        float_graph: the captured float graph.
        model: the lowered file.
        target: its target.
        images: [N, C, H, W]; of a model with a fixed batch, a multiple of it.
        settings: ``parity`` says whether a failure is an error.

    Raises:
        Unsupported: the models differ more than allowed; the message names the first layer.
    """
    for site in calibrated.sites:
        if site.name in report.frozen:
            site.quantizer.set_qparams(report.frozen[site.name])
    set_quantizing(calibrated, report.frozen)
    proto = onnx.load(model)
    modes = [Optimization.OFF, *([Optimization.ALL] if target.runs_here else [])]
    size = _fixed_batch(proto) or BATCH
    images = images[: max(settings.parity_images // size, 1) * size]
    logits = _batched(calibrated.graph, images, size)
    half, dynamic = target.half_remainder, dynamic_weights(proto.graph)
    nudged = _nudged(calibrated, report.frozen, images, size, half, dynamic)
    reference = _batched(float_graph, images, size)
    few = images[:size]
    in_torch = torch_layers(calibrated, report.frozen, few, proto.graph)
    layers: list[LayerParity] = []
    end_to_end = []
    for mode in modes:
        layers += compare_layers(in_torch, report.frozen, proto, mode, half)
        got = _run_model(proto, mode, images, size)
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


class _Rounding(fx.Interpreter):
    """Runs a graph as kernels may that round more than the fake-quant model does.

    Args:
        graph: the graph.
        layers: layers whose input moves as far as rounding each of its rows to 8 bits may move it.
        biases: what the int32 bias adds to the results of layers.
        generator: of the moves.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        layers: Collection[fx.Node],
        biases: dict[fx.Node, Tensor],
        generator: torch.Generator,
    ) -> None:
        super().__init__(graph)
        self._layers = frozenset(layers)
        self._biases = biases
        self._generator = generator

    def run_node(self, n: fx.Node) -> Any:
        if n not in self._layers:
            result = super().run_node(n)
            return result + self._biases[n] if n in self._biases else result
        (x, *rest), keywords = self.fetch_args_kwargs_from_env(n)
        step = x.abs().amax(dim=-1, keepdim=True) / 127
        moved = x + step * torch.empty(x.shape).uniform_(-0.5, 0.5, generator=self._generator)
        return self.call_function(n.target, (moved, *rest), keywords)


def _nudged(
    calibrated: CalibratedGraph,
    frozen: dict[str, QParams],
    images: Tensor,
    size: int,
    half: bool,
    dynamic: Collection[str],
) -> NDArray[np.float64]:
    """Logits of the fake-quant model when each quantizer flips as many codes as the layer check allows.

    A change uniform in ± a codes moves a value across a rounding edge with probability a / 2. For a float16
    remainder, what quantizers read changes by its relative rounding error instead. Biases are rounded to
    int32, as integer kernels do. ``dynamic`` names the weights whose layers quantize their activations on
    the fly.
    """
    generator = torch.Generator().manual_seed(0)

    def change(quantizer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        random = torch.empty(x.shape).uniform_(-1, 1, generator=generator)
        assert isinstance(quantizer, FakeQuantize)
        qparams = quantizer.qparams
        # Of the number, a step of E4M3 is at most an eighth, and one between powers of two a half or all.
        shares = {"fp8_e4m3": 1 / 8, "log2": 1 / 2}
        step = x.abs() * shares[qparams.scheme] if qparams.scheme in shares else qparams.scale
        nudge = x * HALF_NUDGE if half else 2 * LIMITS.share * step
        return (x + nudge * random,)

    hooks = [
        site.quantizer.register_forward_pre_hook(change)
        for site in calibrated.activation_sites()
        if site.quantizer.state is FakeQuantState.QUANTIZING
    ]
    layers = {
        layer for site in calibrated.weight_sites() if site.name in dynamic for layer in site.node.users
    }
    biases = {} if half else bias_roundings(calibrated, frozen)
    rounding = _Rounding(calibrated.graph, layers, biases, generator)
    try:
        return _batched(rounding.run if layers or biases else calibrated.graph, images, size)
    finally:
        for hook in hooks:
            hook.remove()


def _advice(report: LoweringReport) -> str:
    if report.guard == "none" and report.target == "ort-x86":
        return "On a CPU without VNNI 8-bit weights need 'saturation_guard: on'"
    return "Set 'parity: warn' under 'export' to write the model all the same"


def _fixed_batch(proto: onnx.ModelProto) -> int:
    """The batch size that the model was exported for, 0 where it is open."""
    return int(proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value)


def _run_model(proto: onnx.ModelProto, mode: Optimization, images: Tensor, size: int) -> NDArray[np.float64]:
    settings = SessionSettings(optimization=mode, intra_op_threads=torch.get_num_threads())
    session = build_session(proto.SerializeToString(), settings)
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: batch.numpy()})[0] for batch in torch.split(images, size)]
    return np.concatenate(parts).astype(np.float64)


def _batched(graph: Callable[[Tensor], Tensor], images: Tensor, size: int) -> NDArray[np.float64]:
    return torch.cat([graph(batch) for batch in torch.split(images, size)]).double().numpy()


def _sqnr(reference: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """10 log10(Σ r² / Σ (r − x)²), in dB."""
    error = float(((reference - values) ** 2).sum())
    return float(10 * np.log10((reference**2).sum() / max(error, 1e-30)))
