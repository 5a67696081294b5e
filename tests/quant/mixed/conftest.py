"""Small calibrated models on which sensitivity is measured."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from quant.mixed.bench import Bench
from quant.mixed.formats import Formats
from quant.mixed.groups import find_groups
from tests.export.small_models import calibrated_of, simple_recipe

MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench() -> MakeBench:
    """A bench of a model quantized by the simple recipe at 4 and 6 bits."""

    def make(model: nn.Module, images: Tensor, bits: tuple[int, ...] = (4, 6), **fields: Any) -> Bench:
        recipe = simple_recipe(activation={"bits": 6}, weight={"bits": 6}, roles=fields.pop("roles", {}))
        _, calibrated = calibrated_of(model, images, recipe)
        groups = find_groups(calibrated)
        batches = images.split(fields.pop("batch", 4))
        formats = Formats(calibrated, groups, (4, 6, 8))
        return Bench(calibrated.graph, groups, bits, formats, batches, **fields)

    return make
