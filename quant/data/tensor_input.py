"""Inputs that are no images: arrays of numbers, given to the model as they are."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from quant.errors import BadInput

__all__ = ["TensorInput"]


@dataclass(frozen=True)
class TensorInput:
    """A model's input of any shape; nothing is scaled or cropped.

    Attributes:
        input_size: Shape of one input, without the batch, such as (10, 3) for ten tokens of three features.

    Raises:
        BadInput: If it is no shape.
    """

    input_size: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.input_size or not all(type(size) is int and size > 0 for size in self.input_size):
            raise BadInput(
                f"input_shape is {self.input_size!r}; allowed: positive integers, without the batch"
            )

    def transform(self) -> Callable[[Any], torch.Tensor]:
        """Return the function from an array to a float32 tensor.

        It raises BadInput for an array of another shape, and for what is no array.
        """

        def apply(sample: Any) -> torch.Tensor:
            if not isinstance(sample, np.ndarray) or sample.shape != self.input_size:
                given = list(sample.shape) if isinstance(sample, np.ndarray) else type(sample).__name__
                raise BadInput(f"the model takes arrays {list(self.input_size)}, the source gives {given}")
            return torch.from_numpy(np.ascontiguousarray(sample, dtype=np.float32))

        return apply

    def to_metadata(self) -> str:
        """Return the shape as a JSON object, as it is stored beside a model."""
        return json.dumps({"kind": "tensor", "input_size": list(self.input_size)})
