"""Small calibrated graphs to profile."""

from typing import Any

import torch
from torch import nn

from quant.calibrate import calibrate
from quant.calibrated import CalibratedGraph
from quant.encoding import Encoding, freeze
from quant.graph import capture
from quant.recipe import Recipe, parse


def recipe_of(roles: dict[str, str], **more: Any) -> Recipe:
    specs = {
        "a": {"bits": 6, "observer": "percentile", "observer_options": {"alpha": 0.99}},
        "w": {"bits": 4, "signed": True, "symmetric": True, "granularity": "per_channel"},
    }
    return parse(Recipe, {"name": "t", "specs": specs, "roles": roles} | more, "t")


LINEAR = {"linear.input": "a", "linear.weight": "w"}


def frozen(model: nn.Module, images: torch.Tensor, recipe: Recipe) -> CalibratedGraph:
    graph = capture(model.eval(), images[:2])
    calibrated = calibrate(graph, recipe, lambda count: torch.split(images[:count], 8))
    freeze(calibrated, Encoding())
    return calibrated
