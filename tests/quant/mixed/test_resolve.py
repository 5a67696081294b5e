from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from quant.calibrate import calibrate
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.graph import capture
from quant.mixed.constraint import fits
from quant.mixed.resolve import Resolution, decide
from quant.mixed.sensitivity.kl import kl
from quant.mixed.settings import MixedPrecision
from quant.recipe import Recipe
from tests.export.small_models import images_of, simple_recipe

IMAGES = images_of(64, 16)


class Unequal(nn.Module):
    """A stream to which several layers add, one of them hardly anything."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.strong, self.weak, self.head = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 5)
        self.third, self.fourth = nn.Linear(24, 16), nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.strong(x)) + 0.02 * self.weak(torch.tanh(x))
        logits: Tensor = 5.0 * self.head(y + self.fourth(torch.tanh(self.third(y))))
        return logits


def captured() -> fx.GraphModule:
    return capture(Unequal().eval(), IMAGES[:2])


def batches(count: int | None) -> Iterable[Tensor]:
    return torch.split(IMAGES[:count], 32)


def decided(**changes: Any) -> Resolution:
    fields = {"budget": {"kind": "mean_bits", "value": 6}, "keep": {"head": 8}} | changes
    recipe = simple_recipe(activation={"bits": 6}, weight={"bits": 6})
    return decide(recipe, MixedPrecision.model_validate(fields), captured(), batches)


def joint_loss(recipe: Recipe) -> float:
    """KL divergence from float of a network calibrated with an ordinary recipe."""
    graph = captured()
    calibrated = calibrate(graph, recipe, batches)
    freeze(calibrated, Encoding())
    with torch.no_grad():
        return float(kl(graph(IMAGES).double(), calibrated.graph(IMAGES).double()).mean())


@pytest.mark.parametrize("solver", ["milp", "thresholds"])
def test_the_budget_is_kept_and_kept_layers_stay(solver: str) -> None:
    found = decided(solver=solver)
    assert fits(np.array(found.choice), found.constraints)
    widths = found.plan.bits
    assert widths["head"] == 8
    assert widths["strong"] > widths["weak"]
    assert found.sensitivity.groups == tuple(name for name in widths if name != "head")
    assert found.sensitivity.metric == "kl"
    for name, bits in widths.items():
        spec = found.recipe.spec_for("linear.weight", name)
        assert spec is not None
        assert spec.bits == bits


def test_mixed_widths_lose_less_than_uniform_ones_of_the_same_mean() -> None:
    uniform = decided(bits=[6, 8])
    layers = dict.fromkeys(("strong", "weak", "third", "fourth"), 6)
    assert {name: bits for name, bits in uniform.plan.bits.items() if name != "head"} == layers
    assert joint_loss(decided().recipe) < joint_loss(uniform.recipe)


def test_separate_operands_lose_no_more_than_together() -> None:
    together, separate = decided(), decided(operands="separate")
    assert [c.name for c in separate.constraints] == ["mean bits of weights", "mean bits of inputs"]
    assert fits(np.array(separate.choice), separate.constraints)
    assert {role.rpartition(".")[2] for choice in separate.plan.choices for _, role in choice.places} == {
        "weight",
        "input",
    }
    assert joint_loss(separate.recipe) <= joint_loss(together.recipe)


def test_one_limit_for_both_operands_lets_bits_go_to_the_other() -> None:
    apart = decided(operands="separate", metric="sqnr")
    jointly = decided(
        operands="separate", metric="sqnr", budget={"kind": "mean_bits", "value": 6, "jointly": True}
    )
    (limit,) = jointly.constraints
    ends = {"weight": [0, 0], "input": [0, 0]}
    for choice in jointly.plan.choices:
        if choice.group not in jointly.sensitivity.groups:
            continue
        ((_, role),) = choice.places
        sums = ends[role.rpartition(".")[2]]
        sums[0], sums[1] = sums[0] + choice.bits, sums[1] + 1
    # The four layers that are decided have equally many weights, so that the means are plain ones.
    means = [total / count for total, count in ends.values()]
    assert fits(np.array(jointly.choice), jointly.constraints)
    assert limit.total(np.array(jointly.choice)) == pytest.approx(np.mean(means))
    assert np.mean(means) <= 6 + 1e-9

    def loss(found: Resolution) -> float:
        return sum(row[i] for row, i in zip(found.sensitivity.values, found.choice, strict=True))

    # Every choice within two limits is within the one.
    assert loss(jointly) <= loss(apart)


def test_swaps_measure_the_network_that_the_recipe_makes() -> None:
    found = decided(swaps=8, bits=[3, 4, 6, 8])
    assert 1 <= len(found.swaps) <= 8
    accepted = [step.loss for step in found.swaps if step.accepted]
    assert accepted == sorted(accepted, reverse=True)
    loss, before = joint_loss(found.recipe), joint_loss(decided(bits=[3, 4, 6, 8]).recipe)
    # Other batch sizes: float32 sums in another order.
    assert loss == pytest.approx(accepted[-1] if accepted else before, rel=1e-3)
    assert loss <= before * 1.001


def test_sensitivity_against_a_quantized_background() -> None:
    found = decided(background=6)
    # With everything at 6 bits, setting one group to 6 bits is the same network for each group.
    (at_six,) = {values[1] for values in found.sensitivity.values}
    assert at_six == pytest.approx(joint_loss(decided(bits=[6, 8]).recipe), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "klm"}, "unknown sensitivity metric 'klm'"),
        ({"keep": {"*": 8}}, "nothing to decide"),
        (
            {"budget": {"kind": "mean_bits", "value": 3}},
            "mean bits 3 bits cannot be met; the smallest possible is 4 bits",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        decided(**changes)
