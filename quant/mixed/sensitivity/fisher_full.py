"""Fisher information of the layers' outputs, cross terms included.

    Ω = ½ mean_n E_{k ~ p_n} (Σ_i ∂ log p_nk / ∂O_ni · (Ô_ni − O_ni))²

As :mod:`quant.mixed.sensitivity.fisher`, but errors of different elements may add up or cancel: a shift that
all tokens share costs more than noise without a pattern. To second order it is the KL divergence itself.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from quant.mixed.bench import Bench
from quant.mixed.sensitivity.gradients import draw_gradients, run_layers
from quant.mixed.sensitivity.local import layer_errors
from quant.mixed.sensitivity.registry import register_metric

__all__ = ["fisher_full"]


@register_metric("fisher_full")
def fisher_full(bench: Bench) -> NDArray[np.float64]:
    """The table [groups, bits]; layers that share an input count each by itself."""
    table = np.zeros((len(bench.groups), len(bench.bits)))
    generator = torch.Generator().manual_seed(bench.seed)
    for index, images in enumerate(bench.images):
        run = run_layers(bench, images)
        for gradients in draw_gradients(run, bench.probes, generator):
            with torch.no_grad():
                for node, row, column, error in layer_errors(bench, run.arguments, run.outputs):
                    change = (gradients[node] * error).flatten(1).sum(1).double()  # of log p_nk, [N]
                    table[row, column] += 0.5 * float(change.square().sum()) / bench.probes
        bench.progress("sensitivity", index + 1, len(bench.images))
    return table / bench.image_count
