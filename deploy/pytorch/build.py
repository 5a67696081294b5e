"""Take the model out of a run as PyTorch computes it, in float or with fake-quant layers."""

from pathlib import Path

from torch import nn

from deploy.pipeline.line import open_run
from quant.encoding import Encoding, freeze
from quant.errors import BadInput

__all__ = ["build_module"]


def build_module(root: Path, recipe: str | None = None) -> nn.Module:
    """The trained model of a run, or the model that one of its recipes made of it.

    Args:
        root: the run's folder.
        recipe: name of a recipe that was calibrated there; None for the model as it was trained.

    Returns:
        A module of images [N, C, H, W] that gives logits [N, K], in evaluation mode.

    Raises:
        BadInput: the folder holds no run, or no such recipe.
    """
    line = open_run(root)
    if recipe is None:
        return line.loaded.model.eval()
    for known in line.recipes:
        if known.name == recipe:
            calibrated = line.calibrated(known)
            freeze(calibrated, Encoding())
            return calibrated.graph
    names = ", ".join(known.name for known in line.recipes)
    raise BadInput(f"{root}: has no recipe {recipe!r}; it has {names}")
