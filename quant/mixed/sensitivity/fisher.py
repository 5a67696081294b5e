"""Diagonal Fisher information of the layers' outputs.

    Ω = ½ mean_n Σ_i F_ni (Ô_ni − O_ni)²,   F_ni = E_{k ~ p_n} (∂ log p_nk / ∂O_ni)²

O is the layer's output in float, Ô with its input and weight quantized. The Fisher information is the Hessian
of the KL divergence between the class probabilities of the float and the quantized network (which is 0, and
smallest, at Ô = O), so that Ω estimates that divergence; errors of different elements count as uncorrelated.
The expectation is over labels k drawn from the network's own probabilities: no true labels are needed.

One pass and one backward pass for each draw serve all layers and widths.

Source: the diagonal Fisher weighting of BRECQ (Li et al. 2021, section 3.3), with drawn labels.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from quant.mixed.bench import Bench
from quant.mixed.sensitivity.local import LayerWalk, layer_calls, quantized_output
from quant.mixed.sensitivity.registry import register_metric

__all__ = ["fisher", "fisher_diagonals"]


@register_metric("fisher")
def fisher(bench: Bench) -> NDArray[np.float64]:
    """The table [groups, bits]; layers that share an input add up."""
    table = np.zeros((len(bench.groups), len(bench.bits)))
    calls = layer_calls(bench)
    generator = torch.Generator().manual_seed(bench.seed)
    bench.formats.all_float()
    for index, images in enumerate(bench.images):
        arguments, outputs, logits = _run(bench, images)
        for node, diagonal in fisher_diagonals(logits, outputs, bench.probes, generator).items():
            row, group = calls[node]
            with torch.no_grad():
                for column, bits in enumerate(bench.bits):
                    error = quantized_output(bench, group, node, arguments[node], bits) - outputs[node]
                    table[row, column] += 0.5 * float((diagonal * error.square()).sum(dtype=torch.float64))
        bench.progress("sensitivity", index + 1, len(bench.images))
    return table / bench.image_count


def fisher_diagonals(
    logits: Tensor, outputs: dict[fx.Node, Tensor], draws: int, generator: torch.Generator
) -> dict[fx.Node, Tensor]:
    """F of each layer output, averaged over label draws.

    Args:
        logits: [N, K], of an autograd graph that holds ``outputs``.
        outputs: layer outputs by node.
        draws: labels drawn for each image.
        generator: draws them.

    Returns:
        By node, the shape of its output.
    """
    log_p = torch.log_softmax(logits.flatten(1), dim=1)  # [N, K]
    probabilities = log_p.detach().exp().cpu()
    labels = torch.multinomial(probabilities, draws, replacement=True, generator=generator).to(log_p.device)
    squares = {node: torch.zeros_like(output) for node, output in outputs.items()}
    for draw in range(draws):
        # Images do not interact, so that the gradient of the sum holds each image's own gradient.
        total = log_p.gather(1, labels[:, draw : draw + 1]).sum()
        gradients = torch.autograd.grad(total, list(outputs.values()), retain_graph=draw + 1 < draws)
        for node, gradient in zip(outputs, gradients, strict=True):
            squares[node] += gradient.square() / draws
    return squares


def _run(
    bench: Bench, images: Tensor
) -> tuple[dict[fx.Node, tuple[Any, ...]], dict[fx.Node, Tensor], Tensor]:
    """Arguments and outputs of all layers with the autograd graph up to the logits."""
    arguments: dict[fx.Node, tuple[Any, ...]] = {}
    outputs: dict[fx.Node, Tensor] = {}

    def see(node: fx.Node, args: tuple[Any, ...], output: Tensor) -> None:
        arguments[node], outputs[node] = args, output

    with torch.enable_grad():
        # Weights need no gradient; that of the images makes every value part of the autograd graph.
        logits = LayerWalk(bench, see).run(images.detach().clone().requires_grad_())
    return arguments, outputs, logits
