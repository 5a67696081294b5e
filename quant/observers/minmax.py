"""The exact range of everything seen."""

from collections.abc import Mapping

import torch
from torch import Tensor

from quant.observers.base import Observer
from quant.observers.registry import register_observer
from quant.spec import QuantSpec

__all__ = ["MinMax"]


@register_observer("minmax")
class MinMax(Observer):
    """Smallest and largest value ever seen: nothing is clipped."""

    low: Tensor
    high: Tensor

    def _update(self, x: Tensor, low: Tensor, high: Tensor) -> None:  # noqa: ARG002
        first = self.shape is None
        self.low = low if first else torch.minimum(self.low.to(low.device), low)
        self.high = high if first else torch.maximum(self.high.to(high.device), high)

    def _range(self, spec: QuantSpec) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        return self.low, self.high

    def _tensors(self) -> dict[str, Tensor]:
        return {"low": self.low, "high": self.high}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self.low, self.high = state["low"], state["high"]
