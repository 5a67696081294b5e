"""Some rows of a layer's inputs and the float outputs belonging to them, for cheap trials."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from quant.tuning.layer import Layer

__all__ = ["SampledRows"]


@dataclass(frozen=True, eq=False)
class SampledRows:
    """B images with R rows each: tokens of a linear layer, patches of a convolution.

    Attributes:
        inputs: [groups, B, R, K].
        wanted: what the float layer returns there, [B, R, O].
    """

    inputs: Tensor
    wanted: Tensor

    @classmethod
    def draw(cls, layer: Layer, count: int, seed: int, quantized: bool) -> Self:
        """Draw the same number of rows from each tuning image, at other positions in each.

        Args:
            layer: where the walk stands.
            count: rows in all; at least one of each image is taken.
            seed: of the draw.
            quantized: take the inputs behind their quantizer.
        """
        generator = torch.Generator().manual_seed(seed)
        images = sum(len(x) for x in layer.inputs)
        sources = layer.quantized_inputs() if quantized else layer.inputs
        inputs, wanted = [], []
        for x, y in zip(sources, layer.float_outputs, strict=True):
            rows = layer.rows(x)
            rows = rows.reshape(len(rows), len(x), -1, rows.shape[-1])  # [groups, B, P, K]
            outputs = layer.channels_last(y).reshape(len(x), rows.shape[2], -1)  # [B, P, O]
            chance = torch.rand(rows.shape[1:3], generator=generator)
            chosen = chance.argsort(dim=1)[:, : max(1, count // images)]  # [B, R]
            image = torch.arange(len(x))[:, None]
            inputs.append(rows[:, image, chosen])
            wanted.append(outputs[image, chosen])
        return cls(torch.cat(inputs, dim=1), torch.cat(wanted))

    def outputs(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer on rows.

        Args:
            inputs: :attr:`inputs`, quantized in some way.
            weight: [O, I] or [O, I / groups, kh, kw].
            bias: [O].

        Returns:
            [B, R, O].
        """
        groups, _, _, depth = inputs.shape
        rows = weight.reshape(groups, -1, depth)
        y = inputs.flatten(1, 2) @ rows.transpose(1, 2)  # [groups, B R, O / groups]
        y = y.transpose(0, 1).reshape(self.wanted.shape)
        return y if bias is None else y + bias
