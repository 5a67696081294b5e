"""Average Hessian trace of a layer's weights times their squared error (HAWQ-V2).

    Ω = tr(H) / n · ‖Q(W) − W‖²,   tr(H) = E_z zᵀ H z,   z ∈ {−1, +1}^n

H is the Hessian of the loss over the n weights of the layer. The loss is the KL divergence from the network's
own float probabilities, so that no labels are needed; there its Hessian is the Fisher information.
The trace is estimated after Hutchinson with random signs for all layers at once: the products between layers
have mean 0, but some tens of probes are needed. H z comes from a second backward pass. Activations do not
count.

Source: Dong et al. 2020, "HAWQ-V2", sections 3.1 and 3.2.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from quant.graph.nodes import constant_name, tensor_of
from quant.kernels import fake_quantize
from quant.mixed.bench import Bench
from quant.mixed.sensitivity.registry import register_metric
from quant.placement import Site

__all__ = ["hessian", "hessian_traces"]


@register_metric("hessian")
def hessian(bench: Bench) -> NDArray[np.float64]:
    """The table [groups, bits]; layers that share an input add up."""
    sites = {site: row for row, group in enumerate(bench.groups) for site in group.sites if site.is_weight}
    traces = hessian_traces(bench, list(sites))
    table = np.zeros((len(bench.groups), len(bench.bits)))
    for site, row in sites.items():
        weight = _weight(bench, site)
        for column, bits in enumerate(bench.bits):
            qparams = bench.formats.qparams(site, bits)
            if qparams is not None:
                error = (fake_quantize(weight, qparams, site.name) - weight).double()
                table[row, column] += traces[site] / weight.numel() * float(error.square().sum())
    return table


def hessian_traces(bench: Bench, sites: list[Site]) -> dict[Site, float]:
    """Hutchinson's estimate of tr(H) of each weight, the mean over all images.

    H has no negative eigenvalue, so that an estimate below 0 is noise, and 0 is nearer.
    """
    bench.formats.all_float()
    totals = dict.fromkeys(sites, 0.0)
    generator = torch.Generator().manual_seed(bench.seed)
    for index, images in enumerate(bench.images):
        weights = [_weight(bench, site).detach().clone().requires_grad_() for site in sites]
        with torch.enable_grad():
            loss = _loss(bench, sites, weights, images)
            gradients = torch.autograd.grad(loss, weights, create_graph=True)
        for probe in range(bench.probes):
            signs = [_signs(weight, generator) for weight in weights]
            last = probe + 1 == bench.probes
            products = torch.autograd.grad(gradients, weights, signs, retain_graph=not last)  # H z
            for site, sign, product in zip(sites, signs, products, strict=True):
                estimate = float((sign * product).sum(dtype=torch.float64))
                totals[site] += estimate / bench.probes / bench.image_count
        bench.progress("sensitivity", index + 1, len(bench.images))
    return {site: max(total, 0.0) for site, total in totals.items()}


def _loss(bench: Bench, sites: list[Site], weights: list[Tensor], images: Tensor) -> Tensor:
    """KL(p ‖ q) in nats, summed over images; p = q in value, and only q depends on ``weights``."""
    values: dict[fx.Node, Any] = {s.node.all_input_nodes[0]: w for s, w in zip(sites, weights, strict=True)}
    logits = fx.Interpreter(bench.graph).run(images, initial_env=values)
    log_q = torch.log_softmax(logits.flatten(1), dim=1)
    log_p = log_q.detach()
    return (log_p.exp() * (log_p - log_q)).sum()


def _weight(bench: Bench, site: Site) -> Tensor:
    return tensor_of(bench.graph, str(constant_name(site.node.args[0])))


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like)
