import pytest
import torch
from torch import nn

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

NAME = "value_projection_scale"
VALUES = slice(2 * WIDTH, 3 * WIDTH)  # rows of the fused qkv


def projection_input(model: SmallVit) -> torch.Tensor:
    """What proj reads on the calibration images, rows [n, C], float64, from the definition of attention."""
    block = model.block
    with torch.no_grad():
        x = block.norm1(images()).double()
        q, k, v = (x @ block.qkv.weight.double().T + block.qkv.bias.double()).chunk(3, dim=-1)
        heads = []
        for part in torch.arange(WIDTH).chunk(HEADS):
            scores = q[..., part] @ k[..., part].mT / len(part) ** 0.5
            heads.append(scores.softmax(-1) @ v[..., part])
        return torch.cat(heads, -1).flatten(0, 1)


@pytest.mark.parametrize("layer_scale", [False, True])
@pytest.mark.parametrize("options", [{}, {"centre": True}, {"statistic": "range", "exponent": 1.0}])
def test_the_float_output_stays(options, layer_scale):
    model = small_vit(layer_scale=layer_scale)
    result = calibrated(model, recipe({"name": NAME} | options))
    assert [(n.layer, n.applied) for n in result.notes] == [("block", True)]
    assert "block.qkv and block.proj" in result.notes[0].text
    x = images(7, seed=3)
    # float32: sums of 24 products of size up to about 20, rounded in another order
    torch.testing.assert_close(result.graph(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("centre", [False, True])
def test_rows_of_the_values_and_columns_of_the_projection_are_the_formula(centre):
    model = small_vit()
    result = calibrated(
        model, recipe({"name": NAME, "exponent": 0.5, "weight_exponent": 0.25, "centre": centre})
    )
    x, old = (
        projection_input(model),
        {name: p.detach().double() for name, p in model.block.named_parameters()},
    )
    offset = -(x.amin(0) + x.amax(0)) / 2 if centre else torch.zeros(WIDTH).double()
    scale = (x + offset).abs().amax(0) ** 0.5 / old["proj.weight"].abs().amax(0) ** 0.25
    ratio = scale / scale.mean()
    weight, bias = old["qkv.weight"].clone(), old["qkv.bias"].clone()
    weight[VALUES] /= ratio[:, None]
    bias[VALUES] = (bias[VALUES] + offset) / ratio
    expected = {
        "qkv.weight": weight,
        "qkv.bias": bias,
        "proj.weight": old["proj.weight"] * ratio,
        "proj.bias": old["proj.bias"] - old["proj.weight"] @ offset,
    }
    for name, value in expected.items():
        found = tensor_of(result.graph, f"block.{name}").double()
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)  # float32 statistics


def test_the_mean_magnitude_is_that_of_the_sampled_rows():
    model = small_vit()
    options = {"name": NAME, "statistic": "mean_abs", "exponent": 0.5}
    result = calibrated(model, recipe(options))
    scale = projection_input(model).abs().mean(0) ** 0.5  # there are no more rows than are sampled
    old = model.block.proj.weight.detach().double()
    found = tensor_of(result.graph, "block.proj.weight").double()
    torch.testing.assert_close(found, old * (scale / scale.mean()), rtol=1e-4, atol=1e-5)


def test_centring_puts_the_projections_input_around_zero():
    result = calibrated(small_vit(), recipe({"name": NAME, "centre": True, "exponent": 0.5}))
    (site,) = (s for s in result.sites if s.name == "block.proj.input")
    low, high = site.quantizer.channels.range()
    torch.testing.assert_close(low, -high, rtol=0, atol=1e-4)  # float32 attention of values of size 10


def test_four_bit_inputs_come_closer_to_float():
    formats = {"activation": {"bits": 4}}
    only = {"include": ("block.proj",)}
    plain = recipe(**formats).model_copy(update=only)
    scaled = recipe({"name": NAME, "centre": True}, **formats).model_copy(update=only)
    assert quantized_sqnr(small_vit(), scaled) > quantized_sqnr(small_vit(), plain) + 1.0  # dB


class Separate(nn.Module):
    """q, k and v from three layers; ``shared`` keys are also the values."""

    def __init__(self, shared: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.q, self.k, self.v, self.proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.shared = shared
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k = self.k(x)
        v = k if self.shared else self.v(x)
        y = torch.softmax(self.q(x) @ k.transpose(1, 2) / 5.0, -1) @ v
        result: torch.Tensor = self.proj(y)
        return result


def test_values_of_a_layer_of_their_own_are_scaled():
    model = Separate().eval()
    result = calibrated(model, recipe({"name": NAME, "centre": True}))
    assert [n.applied for n in result.notes] == [True]
    assert torch.equal(tensor_of(result.graph, "k.weight"), model.k.weight)
    x = images(7, seed=3)
    torch.testing.assert_close(result.graph(x), model(x), rtol=1e-4, atol=1e-4)  # as above


def test_it_says_why_it_declines():
    method = {"name": NAME, "exponent": 0.5}
    result = calibrated(Separate(shared=True).eval(), recipe(method))
    assert [(n.applied, n.text) for n in result.notes] == [(False, "'matmul' reads the same channels")]
    chosen = recipe(method).model_copy(update={"exclude": ("block.proj",)})
    assert calibrated(small_vit(), chosen).notes[0].text == "the layer behind it is not quantized"
