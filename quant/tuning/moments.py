"""Sums over a layer's tokens from which the output error of any change to its weight follows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from quant.tuning.layer import Layer

__all__ = ["HELD_OUT_EVERY", "Moments", "layer_moments"]

HELD_OUT_EVERY = 5
"""Every fifth image (entry of the first axis) is held out: it judges a result that others gave."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of what a layer reads and of what it lacks, over some tokens.

    With x̂ the inputs that the quantized layer reads, a = [x̂, 1], W and b its weight and bias in float as
    tuned so far, y the float reference's output and r = y − W x̂ − b, changing [W, b] by D leaves the error

        Σ ‖r − D a‖² = Σ ‖r‖² − 2 ⟨D, Σ r aᵀ⟩ + ⟨D Σ a aᵀ, D⟩

    Attributes:
        gram: Σ a aᵀ, [groups, K + 1, K + 1], float64.
        cross: Σ r aᵀ, [groups, O / groups, K + 1], float64.
        energy: Σ ‖r‖².
        tokens: how many there were.
    """

    gram: Tensor
    cross: Tensor
    energy: float
    tokens: int

    def error(self, change: Tensor) -> float:
        """Squared output error, summed over tokens.

        Args:
            change: D [groups, O / groups, K + 1], or without its last column where the bias stays.
        """
        change = change.double()
        depth = change.shape[-1]
        quadratic = ((change @ self.gram[:, :depth, :depth]) * change).sum()
        return self.energy + float(quadratic - 2 * (change * self.cross[..., :depth]).sum())


@torch.no_grad()
def layer_moments(layer: Layer) -> tuple[Moments, Moments]:
    """The moments of the images to learn from, and those of the images held out.

    Fewer than :data:`HELD_OUT_EVERY` images serve as both. Channels that a float side path carries count as
    zero.
    """
    sums: list[list[Moments]] = [[], []]
    weight, bias = layer.weight, layer.bias
    seen = 0
    for x, wanted in zip(layer.quantized_inputs(), layer.float_outputs, strict=True):
        lacking = wanted - layer.output(x, weight, bias)
        held_out = (torch.arange(seen, seen + len(x)) + 1) % HELD_OUT_EVERY == 0
        seen += len(x)
        for part, chosen in zip(sums, (~held_out, held_out), strict=True):
            if chosen.any():
                part.append(_moments(layer, x[chosen], lacking[chosen]))
    learned = _total(sums[0])
    return learned, _total(sums[1]) if sums[1] else learned


def _moments(layer: Layer, x: Tensor, lacking: Tensor) -> Moments:
    rows = layer.rows(x)  # [G, n, K]
    groups, tokens = rows.shape[:2]
    rows = torch.cat([rows, rows.new_ones(groups, tokens, 1)], dim=-1)
    if layer.clipped_units:
        rows[..., list(layer.clipped_units)] = 0.0
    r = layer.channels_last(lacking).reshape(tokens, groups, -1).permute(1, 2, 0)  # [G, O / G, n]
    gram, cross = rows.transpose(1, 2) @ rows, r @ rows
    return Moments(gram.double(), cross.double(), float(r.double().square().sum()), tokens)


def _total(parts: list[Moments]) -> Moments:
    return Moments(
        gram=torch.stack([m.gram for m in parts]).sum(dim=0),
        cross=torch.stack([m.cross for m in parts]).sum(dim=0),
        energy=sum(m.energy for m in parts),
        tokens=sum(m.tokens for m in parts),
    )
