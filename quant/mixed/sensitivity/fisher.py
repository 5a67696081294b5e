"""Diagonal Fisher information of the layers' outputs.

    Ω = ½ mean_n Σ_i F_ni (Ô_ni − O_ni)²,   F_ni = E_{k ~ p_n} (∂ log p_nk / ∂O_ni)²

O is the layer's output in float, Ô with its input and weight quantized. The Fisher information is the Hessian
of the KL divergence between the class probabilities of the float and the quantized network (which is 0, and
smallest, at Ô = O), so that Ω estimates that divergence; errors of different elements count as uncorrelated.
The expectation is over labels k drawn from the network's own probabilities: no true labels are needed.

One pass, and one backward pass for each draw, serve all layers and widths.

Source: the diagonal Fisher weighting of BRECQ (Li et al. 2021, section 3.3), with drawn labels.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from quant.mixed.bench import Bench
from quant.mixed.sensitivity.gradients import draw_gradients, run_layers
from quant.mixed.sensitivity.local import layer_errors
from quant.mixed.sensitivity.registry import register_metric

__all__ = ["fisher"]


@register_metric("fisher")
def fisher(bench: Bench) -> NDArray[np.float64]:
    """The table [groups, bits]; layers that share an input add up."""
    table = np.zeros((len(bench.groups), len(bench.bits)))
    generator = torch.Generator().manual_seed(bench.seed)
    for index, images in enumerate(bench.images):
        run = run_layers(bench, images)
        diagonals = {node: torch.zeros_like(output) for node, output in run.outputs.items()}  # F
        for gradients in draw_gradients(run, bench.probes, generator):
            for node, gradient in gradients.items():
                diagonals[node] += gradient.square() / bench.probes
        with torch.no_grad():
            for node, row, column, error in layer_errors(bench, run.arguments, run.outputs):
                table[row, column] += 0.5 * float((diagonals[node] * error.square()).sum().double())
        bench.progress("sensitivity", index + 1, len(bench.images))
    return table / bench.image_count
