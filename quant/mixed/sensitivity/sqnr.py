"""Signal-to-noise ratio of the outputs, as the noise that each unit of signal has.

    Ω = mean_n ‖y_n − ŷ_n‖² / ‖y_n‖² = mean_n 10^(−SQNR_n / 10),   SQNR_n in dB

In this form, unlike in dB, the contributions of layers add up.
"""

from torch import Tensor

from quant.mixed.sensitivity.registry import register_score

__all__ = ["noise_to_signal"]


@register_score("sqnr")
def noise_to_signal(reference: Tensor, output: Tensor) -> Tensor:
    """Noise power over signal power of each image, [N]; silent outputs count as the smallest normal number.

    Args:
        reference: [N, ...] in float.
        output: [N, ...] with something quantized.
    """
    signal = reference.flatten(1).square().sum(1).clamp(min=2.0**-126)
    return (reference - output).flatten(1).square().sum(1) / signal
