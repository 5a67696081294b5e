from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant.calibrate import prepare
from quant.graph import capture
from quant.graph.nodes import tensor_of
from quant.recipe import Recipe, parse
from tests.quant.methods.small_vit import WIDTH, calibrated, images, quantized_sqnr

NAME = "linear_linear_scale"
HIDDEN = 32


class Mlp(nn.Module):
    """Linear → ReLU → two linear layers whose sum is returned; ``leak`` lets something else read the ReLU."""

    def __init__(self, bias: bool = True, leak: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Linear(WIDTH, HIDDEN, bias=bias)
        self.left, self.right = (nn.Linear(HIDDEN, 8, bias=bias) for _ in range(2))
        self.leak = leak
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            self.first.weight *= torch.randn(HIDDEN, 1, generator=generator).exp()  # channels of uneven size

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        y: Tensor = self.left(x) + self.right(x)
        return y + x.mean() if self.leak else y


def recipe(*methods: dict[str, Any], bits: int = 4, **more: Any) -> Recipe:
    weight = {"bits": bits, "granularity": "per_group", "group_size": 8}
    settings = {"name": "t", "specs": {"w": weight}, "roles": {"linear.weight": "w"}, "methods": methods}
    return parse(Recipe, settings | more, "t")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"statistic": "amax", "weight_exponent": "complement", "steps": 4}])
def test_the_float_output_stays(options: dict[str, Any], bias: bool) -> None:
    model = Mlp(bias).eval()
    result = calibrated(model, recipe({"name": NAME} | options))
    assert [(n.layer, n.applied) for n in result.notes] == [("first", True)]
    assert "first, left, right, exponent" in result.notes[0].text
    x = images(7, seed=3)
    # float32: sums of some 30 products of size up to 10, rounded in another order
    torch.testing.assert_close(result.graph(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("statistic", ["mean_abs", "amax"])
def test_rows_in_front_and_columns_behind_are_the_formula(statistic: str) -> None:
    model = Mlp().eval()
    options = {"statistic": statistic, "exponent": 0.5, "weight_exponent": 0.25}
    result = calibrated(model, recipe({"name": NAME} | options))
    old = {name: p.detach().double() for name, p in model.named_parameters()}
    x = torch.relu(images().double() @ old["first.weight"].T + old["first.bias"]).flatten(0, 1)
    # the calibration has no more rows than are sampled, so that the mean is over all of them
    found = x.mean(0) if statistic == "mean_abs" else x.amax(0)
    column = torch.maximum(old["left.weight"].abs().amax(0), old["right.weight"].abs().amax(0))
    scale = found**0.5 / column**0.25
    ratio = scale / scale.mean()
    expected = {
        "first.weight": old["first.weight"] / ratio[:, None],
        "first.bias": old["first.bias"] / ratio,
        "left.weight": old["left.weight"] * ratio,
        "right.weight": old["right.weight"] * ratio,
        "left.bias": old["left.bias"],
    }
    for name, value in expected.items():
        got = tensor_of(result.graph, name).double()
        torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-5)  # float32 statistics


def test_a_searched_exponent_brings_four_bit_weights_closer() -> None:
    """On images that were not looked at."""
    only = {"include": ("left", "right")}
    plain, scaled = recipe(**only), recipe({"name": NAME, "steps": 20}, **only)
    assert quantized_sqnr(Mlp().eval(), scaled) > quantized_sqnr(Mlp().eval(), plain) + 0.5  # dB


def test_a_stored_calibration_is_rebuilt_without_images() -> None:
    model, chosen = Mlp().eval(), recipe({"name": NAME})
    result = calibrated(model, chosen)
    again = prepare(capture(model, images(2)), chosen, result.knowledge)
    for name in ("first.weight", "first.bias", "left.weight"):
        assert torch.equal(tensor_of(again.graph, name), tensor_of(result.graph, name))


@pytest.mark.parametrize(
    ("model", "more", "reason"),
    [
        ({"leak": True}, {}, "something other than linear layers reads its ReLU"),
        ({}, {"exclude": ("left", "right")}, "the linear layers behind it are not quantized"),
    ],
)
def test_it_says_why_it_declines(model: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    result = calibrated(Mlp(**model).eval(), recipe({"name": NAME}, **more))
    assert [(n.layer, n.applied, n.text) for n in result.notes] == [("first", False, reason)]
