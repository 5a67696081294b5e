"""Move a factor and an offset per channel from a LayerNorm into the linear layers behind it."""

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, is_call, tensor_of
from quant.graph.parameters import update_parameter
from quant.methods.statistics import Statistics

__all__ = ["fold_into_norm", "tell_fold"]

aten = torch.ops.aten


def fold_into_norm(
    graph: fx.GraphModule, norm: fx.Node, linears: list[fx.Node], ratio: Tensor, shift: Tensor
) -> None:
    """Make the LayerNorm return ``x / r + d`` instead of ``x``, and the linear layers expect that.

        γ~ = γ / r,   β~ = β / r + d,   W~ = W diag(r),   b~ = b − W @ (r d)

    so that W~ (x / r + d) + b~ = W x + b.

    Args:
        graph: changed in place.
        norm: the LayerNorm, with weight and bias.
        linears: its only readers, with weight and bias; see :mod:`quant.graph.layer_norm_readers`.
        ratio: r [C], not zero.
        shift: d [C].
    """
    update_parameter(graph, norm.args[2], lambda gamma: gamma / ratio)
    update_parameter(graph, norm.args[3], lambda beta: beta / ratio + shift)
    for linear in linears:
        weight = tensor_of(graph, str(constant_name(linear.args[1]))).double()
        correction = weight @ (ratio * shift)  # [O]
        update_parameter(graph, linear.args[2], lambda bias, c=correction: bias - c)  # type: ignore[misc]
        update_parameter(graph, linear.args[1], lambda w: w * ratio)


def tell_fold(seen: Statistics, norm: fx.Node, ratio: Tensor, shift: Tensor) -> None:
    """Say that the LayerNorm's output, and what only moves its tokens, is now ``x / r + d``."""
    frontier = [norm]
    while frontier:
        value = frontier.pop()
        seen.rescale(value, 1.0 / ratio, shift)
        frontier += [user for user in value.users if not is_call(user, aten.linear.default)]
