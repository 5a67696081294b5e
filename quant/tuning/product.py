"""One attention product of a calibrated graph while a walk stands in front of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from quant.placement import Site
from quant.tuning.parameters import TunedParameters

__all__ = ["Product"]


@dataclass(eq=False)
class Product:
    """Q Kᵀ or P V with at least one quantized operand.

    Attributes:
        name: ``blocks.0.attn.qk`` or ``blocks.0.attn.pv``.
        kind: which.
        sites: the sites of its two operands, None where one stays float.
        inputs: the operands in the graph quantized so far, in front of their quantizers: two lists, one entry
            per batch, [B, H, N, D] and [B, H, D, N] for Q Kᵀ.
        float_inputs: the operands in the float reference.
        parameters: how ranges are changed.
    """

    name: str
    kind: Literal["qk", "pv"]
    sites: tuple[Site | None, Site | None]
    inputs: tuple[list[Tensor], list[Tensor]]
    float_inputs: tuple[list[Tensor], list[Tensor]]
    parameters: TunedParameters

    @torch.no_grad()
    def float_outputs(self) -> Iterator[Tensor]:
        """The product in the float reference, batch by batch."""
        for a, b in zip(*self.float_inputs, strict=True):
            yield a @ b

    @torch.no_grad()
    def outputs(self) -> Iterator[Tensor]:
        """The product of the quantized operands, batch by batch."""
        for a, b in zip(*self.inputs, strict=True):
            yield self.quantized(0, a) @ self.quantized(1, b)

    def quantized(self, operand: int, x: Tensor) -> Tensor:
        """``x`` behind the quantizer of operand 0 or 1."""
        site = self.sites[operand]
        return x if site is None else site.quantizer(x)

    def set_range(self, operand: int, low: Tensor, high: Tensor) -> None:
        """Replace the range of an operand that has a quantizer."""
        site = self.sites[operand]
        assert site is not None
        self.parameters.set_range(site, low, high)
