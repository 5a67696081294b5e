"""What gives a logit per user: the model in PyTorch, or an exported file in ONNX Runtime."""

from typing import Protocol

import numpy as np
import torch
from torch import nn

from deploy.onnxruntime.run import OrtRunner
from examples.mec.features import features
from examples.mec.queues import States
from examples.mec.system import Floats

__all__ = ["Actor", "OrtActor", "TorchActor"]


class Actor(Protocol):
    """Judges users."""

    def logits(self, states: States) -> Floats:
        """Logits of offloading [S, N]."""
        ...


class TorchActor:
    """A model in PyTorch, all simulations in one batch.

    Args:
        model: maps tokens [S, N, 3] or [S, N, 4] to logits [S, N].
        activity: whether the tokens have the fourth feature.
    """

    def __init__(self, model: nn.Module, activity: bool = False) -> None:
        self._model = model
        self._activity = activity

    def logits(self, states: States) -> Floats:
        """See :class:`Actor`."""
        with torch.inference_mode():
            answer = self._model(torch.from_numpy(features(states, self._activity)))
        return np.asarray(answer.numpy(), dtype=np.float64)


class OrtActor:
    """An exported model with one input, called with one state at a time, as a base station would.

    Args:
        runner: an open :class:`deploy.onnxruntime.run.OrtRunner`.
        activity: whether the tokens have the fourth feature.
    """

    def __init__(self, runner: OrtRunner, activity: bool = False) -> None:
        self._runner = runner
        self._activity = activity
        (self._input,) = runner.input_names
        (self._output,) = runner.output_names

    def logits(self, states: States) -> Floats:
        """See :class:`Actor`."""
        tokens = features(states, self._activity)
        answers = [self._runner.infer({self._input: row[None]})[self._output] for row in tokens]
        return np.concatenate(answers).astype(np.float64)
