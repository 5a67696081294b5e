"""Power-of-Two Factor: one scale and zero point for a tensor, and a power of two for each channel.

With K the largest factor and n the number of steps of the format::

    s1 = (max − min) / n / 2^K        z = qmin − round(min / (s1 2^K))
    alpha_c = argmin over k in 0..K of ‖ x_c − DQ(Q(x_c; s1 2^k, z)) ‖²
    s_c = s1 2^alpha_c

An integer kernel aligns the channels by shifting their codes left by alpha_c, and multiplies by nothing.

Source: FQ-ViT (Lin et al. 2022, section 3.2), where K = 3. Codes of 16 bits for single channels are not in
it: where a channel reaches 100 times as far as the others in a few tokens, no factor serves its peaks and its
ordinary values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quant.qparams import MIN_SCALE, WIDE, qparams_from_range
from quant.spec import QuantSpec

__all__ = ["PowerOfTwoFactors", "power_of_two_factors"]


@dataclass(frozen=True, eq=False)
class PowerOfTwoFactors:
    """The parameters of a tensor.

    Attributes:
        step: s1, a float32 number.
        zero_point: z, common to all channels.
        factors: alpha_c, int64 [C].
    """

    step: float
    zero_point: int
    factors: Tensor

    @property
    def scale(self) -> Tensor:
        """s_c = s1 2^alpha_c, float64 [C]; each is a float32 number."""
        steps = torch.full(self.factors.shape, self.step, dtype=torch.float64)
        return torch.ldexp(steps, self.factors)


def power_of_two_factors(
    low: Tensor,
    high: Tensor,
    samples: Tensor,
    spec: QuantSpec,
    largest: int,
    wide: tuple[int, ...] = (),
    name: str = "tensor",
) -> PowerOfTwoFactors:
    """Find the common scale from the whole range and each channel's factor by the least squared error.

    Of factors with equal error the smallest is taken.

    Args:
        low: smallest value of each channel [C].
        high: largest value of each channel [C].
        samples: values of each channel [C, n], on which the error is measured.
        spec: bits, sign and symmetry of the codes; its granularity is not used.
        largest: K.
        wide: channels with codes of 16 bits; their range does not count for the common scale.
        name: the tensor's name, for messages.

    Raises:
        BadInput: a bound is NaN or infinite.
    """
    one_scale = spec.model_copy(update={"granularity": "per_tensor", "group_size": None})
    narrow = torch.ones_like(low, dtype=torch.bool)
    narrow[list(wide)] = False
    whole = qparams_from_range(low[narrow].min(), high[narrow].max(), one_scale, name)  # scale s1 2^K
    step = max(float(whole.scale) / 2.0**largest, MIN_SCALE)
    zero_point = int(whole.zero_point)
    lowest = torch.where(narrow, whole.qmin - zero_point, -WIDE).unsqueeze(1)
    highest = torch.where(narrow, whole.qmax - zero_point, WIDE - 1).unsqueeze(1)
    errors = []
    for k in range(largest + 1):
        scaled = samples.double() / (step * 2.0**k)
        rounded = scaled.round().clamp(lowest, highest)
        errors.append((scaled - rounded).square().sum(dim=1) * 4.0**k)
    factors = torch.stack(errors).argmin(dim=0)  # the first of equal ones
    return PowerOfTwoFactors(step, zero_point, factors)
