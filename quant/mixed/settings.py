"""The section ``mixed_precision`` of a recipe."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["FLOAT", "Budget", "MixedPrecision", "Operands"]

FLOAT = 16
"""The width that stands for float; sizes and mean widths count it as 16 bits, as half precision stores it."""

_WIDTHS = (*range(2, 9), FLOAT)


class Operands(StrEnum):
    """What gets a width."""

    TOGETHER = "together"
    """Each layer: its weight and its input the same."""
    SEPARATE = "separate"
    """Each weight and each input."""
    WEIGHTS = "weights"
    """Each weight; activations keep the recipe's width."""


class Budget(BaseModel):
    """One limit that the chosen widths keep.

    Attributes:
        kind: ``mean_bits``, the mean width of the layers that are decided (not of those in ``keep``), of
            weights and of inputs each by itself where they are separate, or of both at once where
            ``jointly`` says so; ``size``, megabytes (10⁶ bytes) of
            all quantized weights; ``energy``, millijoules for one image by :mod:`quant.energy`; ``latency``,
            milliseconds by a measured table.
        value: the limit; a factor if ``relative_to`` is given.
        relative_to: the limit is ``value`` times what all layers at this width cost.
        weighted_by: what a layer counts in ``mean_bits``, its weights or its multiply-accumulates.
        jointly: whether separate weights and inputs have one limit for the mean of their mean widths, so that
            bits can go from weights to inputs and back.
        table: of ``latency``: a CSV file with the columns layer, bits, milliseconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mean_bits", "size", "energy", "latency"]
    value: float = Field(gt=0.0, allow_inf_nan=False)
    relative_to: int | None = None
    weighted_by: Literal["weights", "macs"] = "weights"
    jointly: bool = False
    table: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.kind == "latency") != (self.table is not None):
            raise ValueError(
                "table and kind: latency go together; give the CSV file of measured times, or leave it out"
            )
        if self.kind != "mean_bits" and self.weighted_by != "weights":
            raise ValueError(f"weighted_by is an option of kind: mean_bits, not of {self.kind}")
        if self.jointly and self.kind != "mean_bits":
            raise ValueError(f"jointly is an option of kind: mean_bits, not of {self.kind}")
        _check_width(self.relative_to)
        return self


class MixedPrecision(BaseModel):
    """Choose a width for every layer from its measured sensitivity.

    Attributes:
        bits: the widths to choose from; 16 is float.
        metric: how sensitivity is measured, a name of :mod:`quant.mixed.sensitivity`.
        background: the width of all other layers while one is measured. 16, float, isolates the layer. A
            quantized background includes how errors add up, but needs many images: what one layer adds is
            small against how the errors of all others happen to fall.
        budget: one limit or several, all of which are kept.
        solver: ``milp``, the best choice by an integer program, or ``thresholds``: the more sensitive of two
            layers never gets fewer bits.
        operands: whether a layer's weight and input get one width ``together`` or ``separate`` ones, or only
            ``weights`` do.
        keep: patterns of layer names to a width that is not up for choice; the first match counts.
        images: how many calibration images sensitivity is measured on; they are held in memory.
        probes: random vectors of ``hessian``, and label draws of ``fisher``.
        swaps: how many changes of the solution are tried by measuring the whole network.
        seed: of the probes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: tuple[int, ...] = (4, 6, 8)
    metric: str = "kl"
    background: int = FLOAT
    budget: tuple[Budget, ...] = Field(min_length=1)
    solver: Literal["milp", "thresholds"] = "milp"
    operands: Operands = Operands.TOGETHER
    keep: dict[str, int] = Field(default_factory=dict)
    images: int = Field(default=64, ge=1)
    probes: int = Field(default=16, ge=1)
    swaps: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)

    @field_validator("budget", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, Mapping | Budget) else value

    @field_validator("bits")
    @classmethod
    def _sorted(cls, bits: tuple[int, ...]) -> tuple[int, ...]:
        for width in bits:
            _check_width(width)
        if len(bits) < 2 or len(set(bits)) < len(bits):
            raise ValueError(f"needs two or more different widths to choose from, got {list(bits)}")
        return tuple(sorted(bits))

    @model_validator(mode="after")
    def _check(self) -> Self:
        for width in (self.background, *self.keep.values()):
            _check_width(width)
        kinds = {budget.kind for budget in self.budget}
        if self.operands is Operands.SEPARATE and kinds & {"energy", "latency"}:
            raise ValueError(
                "energy and latency depend on weight and input at once; use operands: together, or a "
                "budget of kind mean_bits or size"
            )
        return self


def _check_width(bits: int | None) -> None:
    if bits is not None and bits not in _WIDTHS:
        raise ValueError(
            f"{bits} bits cannot be chosen; allowed: {', '.join(map(str, _WIDTHS))} (16 is float)"
        )
