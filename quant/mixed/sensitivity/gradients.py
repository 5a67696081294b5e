"""Gradients of drawn labels' log-probabilities with respect to the outputs of layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from quant.mixed.bench import Bench
from quant.mixed.sensitivity.local import LayerWalk

__all__ = ["LayerRun", "draw_gradients", "run_layers"]


@dataclass(frozen=True, eq=False)
class LayerRun:
    """One float pass over a batch, with its autograd graph.

    Attributes:
        arguments: what each layer read, by node.
        outputs: what each layer returned.
        logits: [N, K].
    """

    arguments: dict[fx.Node, tuple[Any, ...]]
    outputs: dict[fx.Node, Tensor]
    logits: Tensor


def run_layers(bench: Bench, images: Tensor) -> LayerRun:
    """Run the graph in float and keep every layer's arguments and output."""
    arguments: dict[fx.Node, tuple[Any, ...]] = {}
    outputs: dict[fx.Node, Tensor] = {}

    def see(node: fx.Node, args: tuple[Any, ...], output: Tensor) -> None:
        arguments[node], outputs[node] = args, output

    bench.formats.all_float()
    with torch.enable_grad():
        # No parameter needs a gradient; that of the images makes every value part of the autograd graph.
        logits = LayerWalk(bench, see).run(images.detach().clone().requires_grad_())
    return LayerRun(arguments, outputs, logits)


def draw_gradients(run: LayerRun, draws: int, generator: torch.Generator) -> Iterator[dict[fx.Node, Tensor]]:
    """For each draw of one label k_n ~ p_n per image: ∂ log p_nk / ∂O_n of every layer, by node.

    Args:
        run: the float pass; its autograd graph is gone after the last draw.
        draws: how many labels are drawn for each image.
        generator: draws them.
    """
    with torch.enable_grad():
        log_p = torch.log_softmax(run.logits.flatten(1), dim=1)  # [N, K]
    probabilities = log_p.detach().exp().cpu()
    labels = torch.multinomial(probabilities, draws, replacement=True, generator=generator).to(log_p.device)
    for draw in range(draws):
        # ∂ Σ_n log p_nk: images do not interact, so that it holds each image's own gradient.
        chosen = torch.zeros_like(log_p).scatter_(1, labels[:, draw : draw + 1], 1.0)
        outputs = list(run.outputs.values())
        gradients = torch.autograd.grad(log_p, outputs, chosen, retain_graph=draw + 1 < draws)
        yield dict(zip(run.outputs, gradients, strict=True))
