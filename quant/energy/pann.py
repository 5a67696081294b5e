"""Weights for multiplier-free layers: few repeated additions instead of one product (PANN).

Source: "Energy awareness in low precision neural networks", arXiv 2202.02783. With non-negative integers w_q
(the sign is split off, :mod:`quant.energy.unsigned`) ``Σ_i w_q,i x_q,i`` is w_q,i additions of x_q,i. One
element costs, in bit flips, its input register once, and sum and register at each of R additions on average:

    P = (R + 0.5) b_x,        R = ‖w_q‖₁ / d

A budget P leaves a choice between wide inputs and many additions. The weight's step follows from R, and there
is no range that clips it:

    γ_w = ‖w‖₁ / (R d),       w_q = round(w / γ_w)

This is a model of energy: processors and ONNX Runtime multiply such codes like any others.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from quant.energy.toggles import mac_flips
from quant.errors import BadInput
from quant.kernels import fake_quantize
from quant.qparams import qparams_from_range
from quant.spec import QuantSpec

__all__ = [
    "Candidate",
    "Trial",
    "additions_of",
    "budget_of_bits",
    "candidates",
    "choose",
    "expected_error",
    "power",
    "weight_codes",
    "weight_step",
]

ACTIVATION_BITS = (2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Candidate:
    """One way to spend a budget.

    Attributes:
        activation_bits: b_x.
        additions: R, additions per element on average.
    """

    activation_bits: int
    additions: float


@dataclass(frozen=True)
class Trial:
    """What a candidate gives on sample inputs.

    Attributes:
        candidate: what was asked for.
        step: γ_w.
        additions: R of the rounded codes.
        power: bit flips per element with that R.
        largest_code: max |w_q|.
        error: mean squared error of the layer's output.
        expected_error: the error that uniform noise predicts.
    """

    candidate: Candidate
    step: float
    additions: float
    power: float
    largest_code: int
    error: float
    expected_error: float


def budget_of_bits(bits: int) -> float:
    """Bit flips of an unsigned multiply-accumulate of this width: 0.5 b² + 4 b."""
    return mac_flips(bits, bits, signed=False).total


def power(candidate: Candidate) -> float:
    """P = (R + 0.5) b_x, bit flips per element."""
    return (candidate.additions + 0.5) * candidate.activation_bits


def candidates(budget: float, activation_bits: Iterable[int] = ACTIVATION_BITS) -> tuple[Candidate, ...]:
    """Every width of the input with the additions that are left for it, R = P / b_x − 0.5.

    >>> [(c.activation_bits, c.additions) for c in candidates(24.0, (3, 4, 6, 8))]
    [(3, 7.5), (4, 5.5), (6, 3.5), (8, 2.5)]

    Args:
        budget: P, bit flips per element.
        activation_bits: widths to consider.

    Raises:
        BadInput: the budget leaves no addition at any of the widths.
    """
    found = (Candidate(bits, budget / bits - 0.5) for bits in activation_bits)
    affordable = tuple(c for c in found if c.additions > 0)
    if not affordable:
        raise BadInput(f"a budget of {budget:g} bit flips leaves no addition at any width of the input")
    return affordable


def weight_step(weight: Tensor, additions: float) -> float:
    """γ_w = ‖w‖₁ / (R d), one step for the whole tensor; 1 for a weight of zeros.

    Args:
        weight: of any shape with d elements.
        additions: R > 0.
    """
    if not additions > 0:
        raise BadInput(f"the additions per element must be more than 0, got {additions:g}")
    step = float(weight.detach().double().abs().sum()) / (additions * weight.numel())
    return step if step > 0 else 1.0


def weight_codes(weight: Tensor, step: float) -> Tensor:
    """w_q = round(w / γ_w), int64, the shape of ``weight``."""
    return torch.round(weight.detach().double() / step).to(torch.int64)


def additions_of(codes: Tensor) -> float:
    """R = ‖w_q‖₁ / d of rounded codes; rounding moves it a little from what was asked for."""
    return int(codes.abs().sum()) / codes.numel()


def expected_error(weight: Tensor, inputs: Tensor, step: float, input_step: float) -> float:
    """Mean squared error of one output if rounding were uniform noise.

    ``d (E[x²] γ_w² / 12 + E[w²] γ_x² / 12)`` with d = I products per output.

    Args:
        weight: [O, I].
        inputs: [..., I].
        step: γ_w.
        input_step: γ_x.
    """
    square_x, square_w = (float(t.double().square().mean()) for t in (inputs, weight))
    return weight.shape[1] * (square_x * step**2 + square_w * input_step**2) / 12


@torch.no_grad()
def choose(
    weight: Tensor, inputs: Tensor, budget: float, activation_bits: Iterable[int] = ACTIVATION_BITS
) -> tuple[Trial, ...]:
    """Try every candidate on sample inputs.

    Inputs are rounded to unsigned codes over the samples' range, one scale per tensor.

    Args:
        weight: [O, I].
        inputs: what the layer reads, [..., I].
        budget: P, bit flips per element.
        activation_bits: widths to consider.

    Returns:
        The trials, the smallest measured error first.

    Raises:
        BadInput: nothing is affordable, or shapes do not fit.
    """
    if weight.ndim != 2 or inputs.shape[-1] != weight.shape[1] or not inputs.numel():
        raise BadInput(
            f"a weight [O, I] and inputs [..., I] are needed, got {list(weight.shape)}, {list(inputs.shape)}"
        )
    rows = inputs.detach().reshape(-1, weight.shape[1]).float()
    exact = rows.double() @ weight.detach().double().T
    trials = []
    for candidate in candidates(budget, activation_bits):
        spec = QuantSpec.activation(candidate.activation_bits)
        grid = qparams_from_range(rows.min().double(), rows.max().double(), spec, "sample inputs")
        step = weight_step(weight, candidate.additions)
        codes = weight_codes(weight, step)
        additions = additions_of(codes)
        rounded = fake_quantize(rows, grid).double() @ (codes.double() * step).T
        trials.append(
            Trial(
                candidate=candidate,
                step=step,
                additions=additions,
                power=power(Candidate(candidate.activation_bits, additions)),
                largest_code=int(codes.abs().max()),
                error=float((rounded - exact).square().mean()),
                expected_error=expected_error(weight, rows, step, float(grid.scale)),
            )
        )
    return tuple(sorted(trials, key=lambda trial: trial.error))
