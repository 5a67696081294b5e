"""Choose the exponents of a channel scale by what the quantized layer returns.

For a linear layer y = W x, a scale s and an offset d per channel,

    error(s, d) = mean ‖ Q(x / s + d) Q(W diag(s))ᵀ − (x / s + d) (W diag(s))ᵀ ‖²

with Q rounding in the recipe's own formats, each with the range that the recipe's observer finds in the
sampled rows and in the scaled weight. The second term is what the layer returned before, up to the bias that
takes the offset back. In a recipe that names ``bias_correction`` mean errors do not count.

Source: AWQ (Lin et al. 2023, section 3.2) searches the exponent of an activation scale for the rounded weight
alone; here inputs are rounded, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, fx

from quant.graph.nodes import constant_name, tensor_of
from quant.kernels import fake_quantize
from quant.methods.registry import MethodOptions
from quant.methods.side_path import CLIPPED_UNITS
from quant.observers import make_observer
from quant.placement import spec_at
from quant.qparams import qparams_from_range
from quant.recipe import Recipe
from quant.spec import QuantSpec

__all__ = [
    "Exponent",
    "ExponentOptions",
    "Rounded",
    "WeightExponent",
    "best_exponent",
    "reader_of",
    "round_in",
    "with_mean_one",
    "without_zeros",
]


BIAS_METHOD = "bias_correction"
COARSE = {"candidates": 18.0, "step": 0.05}


def _number_or(word: str) -> BeforeValidator:
    def check(value: object) -> object:
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        if not number and value != word:
            raise ValueError(f"give a number from 0 to 1, or '{word}'; not {value!r}")
        return value

    return BeforeValidator(check)


Exponent = Annotated[float | Literal["search"], _number_or("search")]
"""A number from 0 to 1, or ``search``."""

WeightExponent = Annotated[float | Literal["complement"], _number_or("complement")]
"""A number from 0 to 1, or ``complement``: one minus the other exponent."""


class ExponentOptions(MethodOptions):
    """Options of methods that scale channels.

    Attributes:
        exponent: a number, or ``search`` for the one with the least output error on sampled rows.
        steps: ``search`` tries 0, 1 / steps, …, 1.
    """

    exponent: Exponent = "search"
    steps: int = Field(default=10, ge=1, le=100)

    @property
    def searches(self) -> bool:
        """Whether sampled rows are needed."""
        return self.exponent == "search"

    @property
    def candidates(self) -> list[float]:
        """What a search tries."""
        return [step / self.steps for step in range(self.steps + 1)]


def round_in(x: Tensor, spec: QuantSpec | None) -> Tensor:
    """``x`` rounded in a format, with the range that its observer finds in ``x``; as it is for None."""
    if spec is None:
        return x
    x = x.float()
    if spec.observer == "omse":  # coarser: a search asks many times
        spec = spec.model_copy(update={"observer_options": COARSE})
    observer = make_observer(spec)
    observer.update(x)
    low, high = observer.range()
    return fake_quantize(x, qparams_from_range(low, high, spec))


def with_mean_one(scale: Tensor) -> Tensor:
    """A scale divided by its mean: the common factor decides nothing."""
    return scale / scale.mean()


def without_zeros(x: Tensor) -> Tensor:
    """A dead channel counts as a thousandth of the mean."""
    return x.clamp(min=max(float(x.mean()) * 1e-3, 1e-12))


@dataclass(frozen=True, eq=False)
class Rounded:
    """A linear layer, some rows of what it reads, and the formats of both.

    Attributes:
        rows: [n, C], float32.
        weight: [O, C], float32.
        row_spec: format of the rows, None for float.
        weight_spec: format of the weight, None for float.
        corrected: whether the mean error of each output will be taken back by its bias, and does not count.
    """

    rows: Tensor
    weight: Tensor
    row_spec: QuantSpec | None
    weight_spec: QuantSpec | None
    corrected: bool = False

    @property
    def power(self) -> float:
        """The mean square of the outputs, weighted as in :meth:`error`."""
        outputs = self.rows @ self.weight.T
        return float((outputs.square() * _row_weights(outputs)).mean())

    @torch.no_grad()
    def error(self, scale: Tensor | None = None, shift: Tensor | None = None) -> float:
        """The mean squared error of the outputs.

        A row whose output is larger than the median row's counts as if it were of that size: the few massive
        tokens of a transformer would otherwise decide alone.

        Args:
            scale: s [C]; None stands for ones.
            shift: d [C]; None stands for zeros.
        """
        rows, weight = self.rows, self.weight
        if scale is not None:
            rows, weight = (rows / scale).float(), (weight * scale).float()
        if shift is not None:
            rows = (rows + shift).float()
        found = round_in(rows, self.row_spec) @ round_in(weight, self.weight_spec).T
        outputs = rows @ weight.T  # [n, O]
        error = found - outputs
        if self.corrected:
            error = error - error.mean(dim=0)
        return float((error.square() * _row_weights(outputs)).mean())


def _row_weights(outputs: Tensor) -> Tensor:
    """min(1, median power / power) of each row, [n, 1]."""
    power = outputs.square().mean(dim=1, keepdim=True).clamp(min=1e-30)
    return (power.median() / power).clamp(max=1.0)


def reader_of(graph: fx.GraphModule, linear: fx.Node, rows: Tensor, recipe: Recipe) -> Rounded:
    """A linear layer of a graph, in the recipe's formats, without the channels that a side path carries."""
    weight = tensor_of(graph, str(constant_name(linear.args[1]))).detach()
    clipped = list(linear.meta.get(CLIPPED_UNITS, ()))
    if clipped:
        rows = rows.index_fill(1, torch.tensor(clipped), 0.0)
    row_spec, weight_spec = (spec_at(recipe, f"linear.{end}", linear) for end in ("input", "weight"))
    corrected = any(method.name == BIAS_METHOD for method in recipe.methods)
    return Rounded(rows.float(), weight.float(), row_spec, weight_spec, corrected)


def best_exponent(candidates: Sequence[float], error: Callable[[float], float], unscaled: float) -> Tensor:
    """Try exponents.

    Args:
        candidates: of equally good ones the earliest is taken.
        error: of an exponent.
        unscaled: the error without a scale.

    Returns:
        [2], float64: the best exponent, and its error as a share of the unscaled one.
    """
    errors = [error(a) for a in candidates]
    best = min(range(len(errors)), key=errors.__getitem__)
    share = errors[best] / unscaled if unscaled > 0 else 1.0
    return torch.tensor([candidates[best], share], dtype=torch.float64)
