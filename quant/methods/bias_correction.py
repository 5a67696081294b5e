"""Bias correction: make the mean output of every quantized layer that of the float layer.

Quantizing shifts means: codes that clip at one end, or round a small negative mass to zero, add the same sign
everywhere. Layer by layer in forward order, for output channel o over all calibration tokens,

    b_o ← b_o + E[y_o] − E[ŷ_o]

with y the float layer on float inputs and ŷ the quantized layer on what the layers quantized so far give it,
so that earlier shifts are corrected, too.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section
4.2, in its empirical form (appendix D).
"""

import torch

from quant.methods.registry import MethodNote, MethodOptions, WeightsOnly, register_method
from quant.tuning.layer import Layer

__all__ = ["BiasCorrection", "BiasCorrectionOptions"]

NAME = "bias_correction"


class BiasCorrectionOptions(MethodOptions):
    """There are none."""


@register_method(NAME, BiasCorrectionOptions)
class BiasCorrection(WeightsOnly):
    """The method, see the module's text."""

    def __init__(self, options: BiasCorrectionOptions) -> None:
        del options

    def tune_layer(self, layer: Layer) -> MethodNote:
        """Correct the layer's bias."""
        bias = layer.bias
        if bias is None:
            return MethodNote(NAME, layer.name, False, "it has no bias")
        shift = torch.zeros(len(layer.weight), dtype=torch.float64)
        count = 0
        for wanted, found in zip(layer.float_outputs, layer.outputs(), strict=True):
            error = layer.channels_last(wanted) - layer.channels_last(found)  # [n, O]
            shift += error.double().sum(dim=0)
            count += len(error)
        shift /= count
        layer.set_bias(bias + shift.float())
        size = float(shift.square().mean().sqrt())
        return MethodNote(NAME, layer.name, True, f"output mean moved by {size:.3g} (RMS over channels)")
