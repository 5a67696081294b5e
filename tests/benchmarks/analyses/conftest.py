"""The digits example, calibrated on some images, for analyses that measure a network."""

from pathlib import Path

import pytest
import torch

from deploy.pipeline.config import load_config
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line
from quant.calibrate import calibrate
from quant.recipe import Recipe

ROOT = Path(__file__).resolve().parents[3]


def plain_recipe(name: str = "plain", **changes: object) -> Recipe:
    weight = {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"}
    kinds = ("linear", "patch_conv")
    roles = {f"{kind}.{end}": end for kind in kinds for end in ("input", "weight")}
    document = {"name": name, "specs": {"input": {"bits": 8}, "weight": weight}, "roles": roles}
    return Recipe.model_validate(document | changes)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """A line whose one recipe, ``plain``, is calibrated."""
    torch.set_num_threads(1)
    line = Line(load_config(ROOT / "examples" / "digits.yaml"), tmp_path_factory.mktemp("digits"))
    vars(line).update(recipes=(plain_recipe(),))
    some = Spread(line.calibration, 32)
    vars(line).update(calibration=some, validation=Spread(line.validation, 48))
    batches = calibration_batches(some, line.loaded.preprocessing, 16)
    line.keep(calibrate(line.graph, line.recipes[0], batches))
    return line
