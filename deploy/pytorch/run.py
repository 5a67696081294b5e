"""Run a run's model with PyTorch, as it was trained or with fake-quant layers, without compilation."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import nn

from deploy.pytorch.build import build_module
from deploy.runner import Array
from quant.errors import BadInput, InternalError

__all__ = ["TorchRunner"]


class TorchRunner:
    """A `deploy.runner.Runner` on PyTorch; it takes ``input`` and gives ``logits``.

    Args:
        root: the folder of a run.
        recipe: name of one of its recipes; None for the float model.
        threads: inside one operator; the process keeps them.
    """

    def __init__(self, root: Path, recipe: str | None = None, threads: int = 1) -> None:
        self._root = root
        self._recipe = recipe
        self._threads = threads
        self._module: nn.Module | None = None

    def __enter__(self) -> Self:
        torch.set_num_threads(self._threads)
        self._module = build_module(self._root, self._recipe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._module = None

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once.

        Args:
            feeds: ``input`` to images [N, C, H, W] of float32.

        Returns:
            ``logits`` [N, K].

        Raises:
            BadInput: something else is fed.
        """
        if self._module is None:
            raise InternalError("TorchRunner used outside its `with` block: the model is not loaded")
        if list(feeds) != ["input"] or feeds["input"].dtype != np.float32:
            given = ", ".join(f"{name} ({array.dtype})" for name, array in feeds.items())
            raise BadInput(f"PyTorch's model takes 'input' of float32; given: {given or 'nothing'}")
        with torch.inference_mode():
            return {"logits": self._module(torch.from_numpy(feeds["input"])).numpy()}
