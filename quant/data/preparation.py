"""What stands between a source's samples and a model's input."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

__all__ = ["Preparation"]


class Preparation(Protocol):
    """Preprocessing of images, or the mere check of what is no image."""

    @property
    def input_size(self) -> tuple[int, ...]:
        """Shape of one input of the model, without the batch."""
        ...

    def transform(self) -> Callable[[Any], Tensor]:
        """Return the function from a sample to a float32 tensor of that shape."""
        ...

    def to_metadata(self) -> str:
        """Return the settings as a JSON object, as it is stored beside a model."""
        ...
