"""Nuclear norm of a layer's output times its squared error.

    Ω = mean_n ‖Y_n‖_* · ‖Ŷ_n − Y_n‖²_F,   ‖Y‖_* = Σ_j σ_j(Y)

The richer the features of a layer (the more large singular values), the more an error there is held to cost.
One pass serves all widths: each layer is quantized on its float input.

Source: Liu et al. 2021, "Post-Training Quantization for Vision Transformer", section 3.4. The paper takes
whole attention and MLP modules; here it is each group of layers.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from quant.mixed.bench import Bench
from quant.mixed.sensitivity.local import LayerWalk, layer_errors
from quant.mixed.sensitivity.registry import register_metric

__all__ = ["nuclear_norm", "nuclear_norms"]


@register_metric("nuclear_norm")
@torch.no_grad()
def nuclear_norm(bench: Bench) -> NDArray[np.float64]:
    """The table [groups, bits]; layers that share an input add up."""
    table = np.zeros((len(bench.groups), len(bench.bits)))

    def see(node: fx.Node, args: tuple[Any, ...], output: Tensor) -> None:
        norms = nuclear_norms(output)
        for _, row, column, error in layer_errors(bench, {node: args}, {node: output}):
            table[row, column] += float((norms * error.flatten(1).double().square().sum(1)).sum())

    bench.formats.all_float()
    for index, images in enumerate(bench.images):
        LayerWalk(bench, see).run(images)
        bench.progress("sensitivity", index + 1, len(bench.images))
    return table / bench.image_count


def nuclear_norms(output: Tensor) -> Tensor:
    """Sum of the singular values of each image's features, [N], float64.

    Args:
        output: [N, C], [N, ..., C] of a linear layer (tokens times channels) or [N, C, H, W] of a convolution
            (channels times places).
    """
    matrices = output.flatten(2) if output.ndim == 4 else output.reshape(len(output), -1, output.shape[-1])
    values: Tensor = torch.linalg.svdvals(matrices.double())  # [N, min(rows, columns)]
    return values.sum(1)
