"""A running average of each batch's range."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from quant.errors import BadInput
from quant.observers.base import Observer
from quant.observers.registry import register_observer
from quant.spec import QuantSpec

__all__ = ["Ema"]


@register_observer("ema")
class Ema(Observer):
    """``bound = decay * bound + (1 - decay) * bound of this batch``, starting with the first batch.

    By definition the result depends on batch size and order (Jacob et al. 2018, section 3.1).

    Options:
        decay: in [0, 1); 0.9 by default, which remembers about ten batches.
    """

    defaults: ClassVar[Mapping[str, float]] = {"decay": 0.9}
    low: Tensor
    high: Tensor

    def __init__(self, spec: QuantSpec, name: str = "tensor") -> None:
        super().__init__(spec, name)
        if not 0.0 <= self.options["decay"] < 1.0:
            raise BadInput(f"'{name}': decay {self.options['decay']} of 'ema' must be at least 0 and below 1")

    def _update(self, x: Tensor, low: Tensor, high: Tensor) -> None:  # noqa: ARG002
        low, high = low.double(), high.double()
        if self.shape is None:
            self.low, self.high = low, high
            return
        decay = self.options["decay"]
        self.low = decay * self.low.to(low.device) + (1.0 - decay) * low
        self.high = decay * self.high.to(high.device) + (1.0 - decay) * high

    def _range(self, spec: QuantSpec) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        return self.low, self.high

    def _tensors(self) -> dict[str, Tensor]:
        return {"low": self.low, "high": self.high}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self.low, self.high = state["low"], state["high"]
