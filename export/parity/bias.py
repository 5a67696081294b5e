"""What rounding a bias to int32 changes: integer kernels do it, the fake-quant model does not."""

from collections.abc import Callable

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, is_call, tensor_of
from quant.qparams import QParams

__all__ = ["bias_rounding", "moved_by_bias"]


def bias_rounding(
    graph: fx.GraphModule, layer: fx.Node, activation: QParams | None, weight: QParams
) -> Tensor | None:
    """What is added to a layer's result when its bias is a multiple of scale_input · scale_weight.

    For each output channel, Δ = s · round(b / s) − b with s = scale_input · scale_weight (ONNX QLinearConv).

    Args:
        graph: holds the bias.
        layer: a linear layer or a convolution.
        activation: parameters of its input, None where it stays float.
        weight: parameters of its weight.

    Returns:
        Δ, shaped to be added to the result: [O], or [O, 1, 1] of a convolution. None where no integer kernel
        takes the layer: it has no bias, codes that are no integers, or a sum of several scales.
    """
    bias = layer.args[2] if len(layer.args) > 2 else None
    if bias is None or activation is None or activation.scale.numel() != 1:
        return None
    if activation.scheme != "uniform" or weight.scheme != "uniform":
        return None
    values = tensor_of(graph, str(constant_name(bias))).double()
    if weight.scale.numel() not in (1, values.numel()):
        return None
    step = activation.scale.double().reshape(()) * weight.scale.double().reshape(-1)
    change = (torch.round(values / step) * step - values).float()
    return change.reshape(-1, 1, 1) if is_call(layer, torch.ops.aten.conv2d.default) else change


@torch.no_grad()
def moved_by_bias(
    change: Tensor, raw: Tensor, behind: Callable[[Tensor], Tensor], step: float, equal: float
) -> tuple[float, int]:
    """How much of a layer's result that change moves.

    Args:
        change: from :func:`bias_rounding`.
        raw: what the layer returns, [B, ..., O] or [B, O, H, W].
        behind: makes the compared result of it, such as a ReLU and the output's quantizer.
        step: one code of the result, in its unit.
        equal: results nearer than this, in codes, count as equal.

    Returns:
        The share of results that move, 0 to 1, and the largest change in whole codes, rounded down.
    """
    codes = (behind(raw + change) - behind(raw)).abs() / step
    return float((codes > equal).double().mean()), int(float(change.abs().max()) / step)
