"""A range known beforehand."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from quant.errors import BadInput
from quant.observers.base import Observer
from quant.observers.registry import register_observer
from quant.spec import QuantSpec

__all__ = ["Fixed"]


@register_observer("fixed")
class Fixed(Observer):
    """The range given, whatever the values are; a softmax is within [0, 1] by construction.

    It looks at no values, only at the shape (and per tensor not even at that: it needs no calibration).

    Options:
        low: 0 by default.
        high: 1 by default.
    """

    defaults: ClassVar[Mapping[str, float]] = {"low": 0.0, "high": 1.0}

    def __init__(self, spec: QuantSpec, name: str = "tensor") -> None:
        super().__init__(spec, name)
        low, high = self.options["low"], self.options["high"]
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise BadInput(f"'{name}': 'fixed' needs finite low < high, not low {low}, high {high}")
        if spec.granularity == "per_tensor":
            self.shape = torch.Size(())

    def update(self, x: Tensor) -> None:
        """Take note of the number of channels or groups."""
        self.shape = self._checked_shape(x)

    def _update(self, x: Tensor, low: Tensor, high: Tensor) -> None:
        """Nothing to see."""

    def _range(self, spec: QuantSpec) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        assert self.shape is not None
        return torch.full(self.shape, self.options["low"]), torch.full(self.shape, self.options["high"])

    def _tensors(self) -> dict[str, Tensor]:
        return {}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load."""
