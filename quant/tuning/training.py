"""Steps of Adam under a schedule, whose state can be kept and taken up again."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Training"]


class Training:
    """Adam; its rates rise in a line, then fall along half a cosine to 0.

    With s steps of which the first r rise, step t = 0 … s − 1 has the share (t + 1) / r of the rates for
    t < r, then (1 + cos(π (t − r) / (s − r))) / 2.

    Source: Adam (Kingma and Ba 2015); cosine schedule (Loshchilov and Hutter 2017, equation 5).
    """

    def __init__(self, groups: Sequence[dict[str, Any]], steps: int, warm_up: float) -> None:
        """Begin at step 0.

        Args:
            groups: parameters, a list called ``params``, and their rate ``lr``.
            steps: s.
            warm_up: r / s.
        """
        self._steps, self._rising = steps, max(1, round(warm_up * steps))
        self._optimizer = torch.optim.Adam(groups)
        self._rates = [float(group["lr"]) for group in groups]
        self._done = 0

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of ``loss``."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._share(self._done)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._done += 1

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to go on from here, the variables included."""
        variables = [variable.detach() for variable in self._variables()]
        return {"done": self._done, "variables": variables, "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state` of a training of the same variables."""
        for variable, value in zip(self._variables(), state["variables"], strict=True):
            variable.data.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._done = state["done"]

    def _variables(self) -> list[Tensor]:
        return [variable for group in self._optimizer.param_groups for variable in group["params"]]

    def _share(self, step: int) -> float:
        if step < self._rising:
            return (step + 1) / self._rising
        return 0.5 * (1.0 + math.cos(math.pi * (step - self._rising) / max(1, self._steps - self._rising)))
