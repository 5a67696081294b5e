"""A range that leaves out a share of the values at both ends."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from quant.errors import BadInput
from quant.observers.registry import register_observer
from quant.observers.sketch import SketchObserver
from quant.spec import QuantSpec

__all__ = ["Percentile"]


@register_observer("percentile")
class Percentile(SketchObserver):
    """From the ``1 - alpha`` to the ``alpha`` quantile of all the values seen.

    Options:
        alpha: in (0.5, 1]; 0.99999 by default.
    """

    defaults: ClassVar[Mapping[str, float]] = {"alpha": 0.99999}

    def __init__(self, spec: QuantSpec, name: str = "tensor") -> None:
        super().__init__(spec, name)
        if not 0.5 < self.options["alpha"] <= 1.0:
            raise BadInput(
                f"'{name}': alpha {self.options['alpha']} of 'percentile' must be above 0.5, at most 1"
            )

    def _range(self, spec: QuantSpec) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        cells, alpha = self.sketch.cells(), self.options["alpha"]
        return self._shaped(cells.quantile(1.0 - alpha), cells.quantile(alpha))
