"""Ranges of channels whose scales differ by powers of two."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from quant.errors import BadInput
from quant.integer.power_of_two import PowerOfTwoFactors, power_of_two_factors
from quant.layout import rows
from quant.observers.base import Observer
from quant.observers.registry import register_observer
from quant.spec import QuantSpec

__all__ = ["PowerOfTwo"]

LARGEST = 12


@register_observer("power_of_two")
class PowerOfTwo(Observer):
    """The Power-of-Two Factor of :mod:`quant.integer.power_of_two`, for a format ``per_channel``.

    The bounds are exact. The squared error is measured on a sample of each channel: every 2^i-th of its
    values, i as small as fits the memory. So the result depends on the order of the values, not on how they
    were cut into batches.

    Options:
        largest: K, the largest factor, 0 to 12; 3 by default.
        samples: how many values of each channel are kept at most; 2048 by default.
        wide: a channel that reaches this many times as far as the median channel gets codes of 16 bits and no
            say in the common scale; 0, the default, for none.
    """

    defaults: ClassVar[Mapping[str, float]] = {"largest": 3, "samples": 2048, "wide": 0}
    low: Tensor
    high: Tensor
    values: Tensor
    stride: int
    seen: int

    def __init__(self, spec: QuantSpec, name: str = "tensor") -> None:
        super().__init__(spec, name)
        if spec.granularity != "per_channel" or spec.scheme != "uniform":
            raise BadInput(
                f"'{name}': observer 'power_of_two' gives each channel its own factor; it needs granularity "
                "'per_channel' (with the axis of the channels) and scheme 'uniform'"
            )
        if self.options["largest"] not in range(LARGEST + 1):
            raise BadInput(
                f"'{name}': largest {self.options['largest']} of 'power_of_two' must be a whole number, "
                f"0 to {LARGEST}"
            )
        if self.options["samples"] < 2 or self.options["samples"] % 1:
            raise BadInput(
                f"'{name}': samples {self.options['samples']} of 'power_of_two' must be a whole number from 2"
            )

        if self.options["wide"] and self.options["wide"] <= 1:
            raise BadInput(
                f"'{name}': wide {self.options['wide']} of 'power_of_two' must be 0 or more than 1"
            )

    def factors(self, spec: QuantSpec | None = None) -> PowerOfTwoFactors:
        """Step, zero point and factors for a format, by default the observer's own."""
        return power_of_two_factors(
            self.low,
            self.high,
            self.values,
            spec or self.spec,
            int(self.options["largest"]),
            self.wide_channels,
            self.name,
        )

    @property
    def wide_channels(self) -> tuple[int, ...]:
        """The channels that reach ``wide`` times as far as the median."""
        if not self.options["wide"] or self.shape is None:
            return ()
        reach = torch.maximum(-self.low, self.high)
        return tuple(int(c) for c in (reach > self.options["wide"] * reach.median()).nonzero().flatten())

    def _update(self, x: Tensor, low: Tensor, high: Tensor) -> None:
        values = rows(x, self.spec, self.name)
        if self.shape is None:
            self.low, self.high = low, high
            self.values, self.stride, self.seen = values[:, :0].clone(), 1, 0
        self.low = torch.minimum(self.low.to(low.device), low)
        self.high = torch.maximum(self.high.to(high.device), high)
        kept = values[:, -self.seen % self.stride :: self.stride]
        self.seen += values.shape[1]
        self.values = torch.cat([self.values.to(kept.device), kept], dim=1)
        while self.values.shape[1] > self.options["samples"]:
            self.values, self.stride = self.values[:, ::2].clone(), self.stride * 2

    def _range(self, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        """The bounds of which :func:`quant.qparams.qparams_from_range` makes exactly s_c and z."""
        found = self.factors(spec)
        if spec.symmetric:
            reach = found.scale * ((1 << (spec.bits - 1)) - 1)
            return -reach, reach
        return found.scale * (spec.qmin - found.zero_point), found.scale * (spec.qmax - found.zero_point)

    def _tensors(self) -> dict[str, Tensor]:
        position = torch.tensor([self.stride, self.seen])
        return {"low": self.low, "high": self.high, "values": self.values, "position": position}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self.low, self.high, self.values = state["low"], state["high"], state["values"]
        self.stride, self.seen = state["position"].tolist()
