"""The boundary every runtime implements: a context manager with one ``infer``."""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Runner"]

Array = NDArray[np.generic]


class Runner(Protocol):
    """A loaded model that can be run.

    Used as ``with OrtRunner(...) as r: outputs = r.infer({"input": x})``; the runtime's resources are
    released at the end of the block.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once.

        Args:
            feeds: input name to array.

        Returns:
            Output name to array.
        """
        ...
