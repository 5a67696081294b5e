"""What the methods that search for scales have in common."""

from typing import Self

from pydantic import Field, model_validator

from quant.methods.registry import MethodOptions

__all__ = ["SearchOptions"]


class SearchOptions(MethodOptions):
    """Options of a search.

    Attributes:
        candidates: how many factors of the min-max scale are tried, beside 1 and the scale in force.
        low: the smallest factor.
        high: the largest.
        rounds: how often the search alternates between the two scales at most.
        rows: rows that trials are made on; at least one of each image used.
        images: attention products are tried on at most so many images.
        seed: of every draw.
    """

    candidates: int = Field(default=29, ge=1)
    low: float = Field(default=0.5, gt=0.0)
    high: float = Field(default=1.2, gt=0.0)
    rounds: int = Field(default=3, ge=1, le=20)
    rows: int = Field(default=256, ge=1)
    images: int = Field(default=32, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high {self.high} is below low {self.low}")
        return self
