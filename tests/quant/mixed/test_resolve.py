from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quant.calibrate import calibrate
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.graph import capture
from quant.mixed.constraint import fits
from quant.mixed.resolve import Resolution, decide
from quant.mixed.sensitivity.kl import kl
from quant.mixed.settings import MixedPrecision
from quant.recipe import Recipe
from tests.export.small_models import images_of, simple_recipe, tiny_vit

IMAGES = images_of(8, 3, 32, 32)
KEEP = {"patch_embed*": 8, "head": 8}


def batches(count: int | None) -> Iterable[Tensor]:
    return torch.split(IMAGES[:count], 4)


def decided(recipe: Recipe | None = None, **changes: Any) -> Resolution:
    fields = {"budget": {"kind": "mean_bits", "value": 6}, "keep": KEEP, "images": 8} | changes
    graph = capture(tiny_vit().eval(), IMAGES[:2])
    return decide(
        recipe or simple_recipe(activation={"bits": 6}, weight={"bits": 6}),
        MixedPrecision.model_validate(fields),
        graph,
        batches,
    )


def joint_loss(recipe: Recipe) -> float:
    """KL divergence from float of a network calibrated with an ordinary recipe."""
    graph = capture(tiny_vit().eval(), IMAGES[:2])
    calibrated = calibrate(graph, recipe, batches)
    freeze(calibrated, Encoding())
    with torch.no_grad():
        return float(kl(graph(IMAGES).double(), calibrated.graph(IMAGES).double()).mean())


@pytest.mark.parametrize("solver", ["milp", "thresholds"])
def test_the_budget_is_kept_and_kept_layers_stay(solver: str) -> None:
    found = decided(solver=solver)
    assert fits(np.array(found.choice), found.constraints)
    widths = found.plan.bits
    assert widths["head"] == widths["patch_embed.proj"] == 8
    assert found.sensitivity.groups == tuple(
        name for name in widths if name not in ("head", "patch_embed.proj")
    )
    assert found.sensitivity.metric == "kl"
    for name, bits in widths.items():
        role = "patch_conv.weight" if name.startswith("patch") else "linear.weight"
        spec = found.recipe.spec_for(role, name)
        assert spec is not None
        assert spec.bits == bits


def test_mixed_widths_lose_less_than_uniform_ones_of_the_same_mean() -> None:
    found = decided(swaps=6)
    uniform = decided(bits=[6, 8], swaps=0)
    assert set(uniform.plan.bits.values()) == {6, 8}
    assert [b for n, b in uniform.plan.bits.items() if n.startswith("blocks")] == [6] * 4
    assert joint_loss(found.recipe) < joint_loss(uniform.recipe)


def test_swaps_measure_the_network_that_the_recipe_makes() -> None:
    found = decided(swaps=8, bits=[3, 4, 6, 8])
    assert len(found.swaps) == 8
    accepted = [step.loss for step in found.swaps if step.accepted]
    assert accepted == sorted(accepted, reverse=True)
    loss = joint_loss(found.recipe)
    if accepted:  # batches of 4 against 8 at once: float32 sums in another order
        assert loss == pytest.approx(accepted[-1], rel=1e-3)
    assert loss <= joint_loss(decided(swaps=0, bits=[3, 4, 6, 8]).recipe) * 1.001


def test_sensitivity_against_a_quantized_background() -> None:
    found = decided(background=6)
    # With everything at 6 bits, setting one group to 6 bits is the same network for each group.
    at_six = {values[1] for values in found.sensitivity.values}
    assert len(at_six) == 1
    uniform = decided(bits=[6, 8]).recipe
    assert at_six.pop() == pytest.approx(joint_loss(uniform), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "klm"}, "unknown sensitivity metric 'klm'"),
        ({"keep": {"*": 8}}, "nothing to decide"),
        (
            {"budget": {"kind": "mean_bits", "value": 3}},
            "mean bits 3 bits cannot be met; the smallest possible is 4",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        decided(**changes)
