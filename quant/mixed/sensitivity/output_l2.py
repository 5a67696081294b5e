"""Distance of the outputs.

    output_l2:          Ω = mean_n ‖y_n − ŷ_n‖₂
    output_l2_squared:  Ω = mean_n ‖y_n − ŷ_n‖₂²

Errors of different layers are nearly uncorrelated, so that their squares add up, not their lengths: sums over
layers, as an allocation takes them, want the square.
"""

from torch import Tensor

from quant.mixed.sensitivity.registry import register_score

__all__ = ["output_l2", "output_l2_squared"]


@register_score("output_l2_squared")
def output_l2_squared(reference: Tensor, output: Tensor) -> Tensor:
    """‖y − ŷ‖₂² of each image, [N].

    Args:
        reference: [N, ...] in float.
        output: [N, ...] with something quantized.
    """
    return (reference - output).flatten(1).square().sum(1)


@register_score("output_l2")
def output_l2(reference: Tensor, output: Tensor) -> Tensor:
    """‖y − ŷ‖₂ of each image, [N]."""
    return output_l2_squared(reference, output).sqrt()
