"""KL divergence of the class probabilities.

    Ω = mean_n Σ_k p_nk (log p_nk − log q_nk),   p = softmax(y), q = softmax(ŷ)

To second order in the errors it adds up over layers whose errors are uncorrelated.
"""

import torch
from torch import Tensor

from quant.mixed.sensitivity.registry import register_score

__all__ = ["kl"]


@register_score("kl")
def kl(reference: Tensor, output: Tensor) -> Tensor:
    """KL(p ‖ q) in nats, [N].

    Args:
        reference: [N, K] logits in float.
        output: [N, K] logits with something quantized.
    """
    log_p, log_q = torch.log_softmax(reference, dim=-1), torch.log_softmax(output, dim=-1)
    return (log_p.exp() * (log_p - log_q)).flatten(1).sum(1)
