"""The range with the least mean squared error."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from quant.errors import BadInput
from quant.observers.cells import Cells
from quant.observers.registry import register_observer
from quant.observers.sketch import SketchObserver
from quant.qparams import QParams, qparams_from_range
from quant.spec import QuantSpec

__all__ = ["Omse", "mean_squared_error"]

_BLOCK = 2**16


@register_observer("omse")
class Omse(SketchObserver):
    """The exact range times ``1, 0.99, 0.98, ...``, whichever quantizes the values with the least error.

    Both ends shrink together (FQ-ViT's OMSE, over all values instead of the last batch). The error is
    that of the format asked for, its rounded zero point included. Ties go to the wider range.

    Options:
        candidates: how many factors are tried, 1 to 99; 90 by default, down to 0.11.
        step: the distance of two factors, 0.01 by default.
    """

    defaults: ClassVar[Mapping[str, float]] = {"candidates": 90, "step": 0.01}

    def __init__(self, spec: QuantSpec, name: str = "tensor") -> None:
        super().__init__(spec, name)
        if self.options["candidates"] not in range(1, 100):
            raise BadInput(
                f"'{name}': candidates {self.options['candidates']} of 'omse' must be a whole number, 1 to 99"
            )
        if not 0.0 < self.options["step"] * self.options["candidates"] < 1.0:
            raise BadInput(
                f"'{name}': step {self.options['step']:g} of 'omse' times candidates "
                f"{self.options['candidates']:g} must lie between 0 and 1"
            )

    def _range(self, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        if spec.scheme != "uniform":
            raise BadInput(f"'{self.name}': observer 'omse' serves scheme 'uniform', not '{spec.scheme}'")
        low, high = self.sketch.low.double(), self.sketch.high.double()
        cells = self.sketch.cells()
        best_error = torch.full_like(low, torch.inf)
        best_factor = torch.ones_like(low)
        for i in range(int(self.options["candidates"])):
            factor = 1.0 - self.options["step"] * i
            error = mean_squared_error(
                cells, qparams_from_range(low * factor, high * factor, spec, self.name)
            )
            better = error < best_error
            best_error = torch.where(better, error, best_error)
            best_factor = torch.where(better, factor, best_factor)
        return self._shaped(low * best_factor, high * best_factor)


def mean_squared_error(cells: Cells, qparams: QParams) -> Tensor:
    """Mean of ``(x - dequantize(quantize(x)))^2`` over each row of a distribution.

    In units of the scale, ``t = x / scale``, and with ``[L, U] = [qmin - z, qmax - z]``, the squared
    error has the antiderivative ``F(t) = G(c) + (t - c)^3 / 3`` with ``c = clamp(t, L, U)`` and
    ``G(c) = r / 12 + (c - r)^3 / 3``, ``r = floor(c + 1/2)``: whole steps contribute 1/12 each. A cell
    ``[a, b]`` has the mean error ``(F(b) - F(a)) / (b - a)``.

    Args:
        cells: R rows.
        qparams: uniform, with one scale (or R of them, in any shape).

    Returns:
        float64 ``[R]``.
    """
    scale = qparams.scale.double().reshape(-1, 1)
    zero_point = qparams.zero_point.double().reshape(-1, 1)
    bottom, top = qparams.qmin - zero_point, qparams.qmax - zero_point
    row_count, cell_count = cells.count.shape
    block = max(1, _BLOCK // cell_count)  # as many rows at once as stay in the cache
    means = []
    for start in range(0, row_count, block):
        part = slice(start, start + block)
        low = cells.low[part] / scale[part]
        if cells.exact:
            mean = _point_errors(low, bottom[part], top[part]).mean(dim=1)
        else:
            errors = _cell_errors(low, cells.high[part] / scale[part], bottom[part], top[part])
            mean = (errors * cells.count[part]).sum(dim=1) / cells.count[part].sum(dim=1)
        means.append(mean * scale[part, 0] ** 2)
    return torch.cat(means)


def _point_errors(t: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
    return (t - torch.round(t).clamp_(bottom, top)).square_()


def _cell_errors(a: Tensor, b: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
    """Mean squared error within each cell ``[a, b]``, all in units of the scale."""
    width = b - a
    wide = width > 1e-4  # below, F(b) - F(a) would cancel, and the error at the middle is as good
    integral = _antiderivative(b, bottom, top) - _antiderivative(a, bottom, top)
    return torch.where(wide, integral / width, _point_errors((a + b) / 2, bottom, top))


def _antiderivative(t: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
    inside = t.clamp(bottom, top)
    code = torch.floor(inside + 0.5)
    return code / 12 + (inside - code) ** 3 / 3 + (t - inside) ** 3 / 3
