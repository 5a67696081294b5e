import pytest
import torch

from quant.graph.nodes import tensor_of
from tests.quant.methods.small_vit import (
    HEADS,
    WIDTH,
    SmallVit,
    calibrated,
    images,
    quantized_sqnr,
    recipe,
    small_vit,
)

NAME = "query_key_scale"
SCORES = {"attention_qk.input": "a"}


def queries_and_keys(model: SmallVit) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest magnitudes of q and k on the calibration images, [H, D] each, float64."""
    with torch.no_grad():
        qkv = model.block.qkv(model.block.norm1(images())).double().flatten(0, 1)
    q, k, _ = qkv.abs().amax(0).chunk(3)
    return q.reshape(HEADS, -1), k.reshape(HEADS, -1)


@pytest.mark.parametrize("layer_scale", [False, True])
@pytest.mark.parametrize("options", [{}, {"per": "head", "exponent": 0.5}, {"exponent": 1.0}])
def test_the_float_output_stays(options, layer_scale):
    model = small_vit(layer_scale=layer_scale)
    result = calibrated(model, recipe({"name": NAME} | options, roles=SCORES))
    assert [(n.layer, n.applied) for n in result.notes] == [("block", True)]
    assert not torch.equal(tensor_of(result.graph, "block.qkv.weight"), model.block.qkv.weight)
    x = images(7, seed=3)
    # float32: scores of size up to about 50 summed from other factors, through a softmax
    torch.testing.assert_close(result.graph(x), model(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("per", ["head", "channel"])
def test_rows_of_queries_and_keys_are_the_formula(per):
    model = small_vit()
    result = calibrated(model, recipe({"name": NAME, "per": per, "exponent": 0.5}, roles=SCORES))
    q, k = queries_and_keys(model)
    if per == "head":
        q, k = (m.amax(1, keepdim=True).expand(m.shape) for m in (q, k))
    scale = (k / q) ** 0.5
    scale = (scale / scale.mean()).flatten()
    factor = torch.cat([scale, 1 / scale, torch.ones(WIDTH).double()])
    for name, column in (("weight", factor[:, None]), ("bias", factor)):
        expected = getattr(model.block.qkv, name).detach().double() * column
        found = tensor_of(result.graph, f"block.qkv.{name}").double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)  # float32 statistics


def test_half_exponent_gives_both_the_same_range_up_to_one_factor():
    result = calibrated(small_vit(), recipe({"name": NAME, "exponent": 0.5}, roles=SCORES))
    x = images()
    block = small_vit().block
    with torch.no_grad():
        weight, bias = (tensor_of(result.graph, f"block.qkv.{n}") for n in ("weight", "bias"))
        rows = torch.nn.functional.linear(block.norm1(x), weight, bias).flatten(0, 1)
    q, k, _ = rows.abs().amax(0).chunk(3)
    ratio = q / k
    torch.testing.assert_close(ratio, ratio.mean().expand(WIDTH), rtol=1e-4, atol=0)  # float32


def test_four_bit_queries_and_keys_come_closer_to_float():
    formats = {"activation": {"bits": 4}}
    found = {}
    for name, methods in (("plain", ()), ("scaled", ({"name": NAME},))):
        chosen = recipe(*methods, roles=SCORES, **formats)
        overrides = [{"modules": "*", "roles": {"linear.input": None}}]
        data = chosen.model_dump(mode="json") | {"overrides": overrides}
        found[name] = quantized_sqnr(small_vit(), type(chosen).model_validate(data))
    assert found["scaled"] > found["plain"] + 1.0  # dB


class Tied(SmallVit):
    """Queries are the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.qk = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.qk(x)
        result: torch.Tensor = self.head(torch.softmax(y @ y.transpose(1, 2), -1) @ x)
        return result


@pytest.mark.parametrize(
    ("model", "roles", "reason"),
    [
        (small_vit(), {}, "its queries and keys are not quantized"),
        (small_vit(normed=True), SCORES, "its queries or keys are not those of a linear layer"),
        (Tied(), SCORES, "its queries are its keys"),
    ],
    ids=["float", "normed", "tied"],
)
def test_it_says_why_it_declines(model, roles, reason):
    result = calibrated(model, recipe({"name": NAME, "exponent": 0.5}, roles=roles))
    assert [(n.applied, n.text) for n in result.notes] == [(False, reason)]
