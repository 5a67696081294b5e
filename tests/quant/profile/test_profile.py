"""The profile of small models against the same figures computed at once, in float64, with numpy."""

import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from torch import nn

from quant.calibrate import calibrate
from quant.calibrated import CalibratedGraph
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.graph import capture
from quant.profile import Profile, profile
from quant.profile.compare import outlier_line
from quant.profile.histogram import Histogram
from quant.recipe import Recipe, load_recipe, parse

Array = NDArray[np.float64]


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


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 9), nn.Linear(9, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(nn.functional.gelu(self.first(x)))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor([1, 1, 1, 1, 1, 9.0])


@pytest.fixture(scope="module")
def mlp(images: torch.Tensor) -> tuple[CalibratedGraph, Profile]:
    calibrated = frozen(Mlp(), images, recipe_of(LINEAR))
    return calibrated, profile(calibrated, torch.split(images, 16))


def rounded(calibrated: CalibratedGraph, name: str, x: Array) -> Array:
    """What the site's scale and zero point make of ``x``, by the definition of affine quantization."""
    (site,) = (site for site in calibrated.sites if site.name == name)
    q = site.quantizer.qparams
    scale, zero = q.scale.double().numpy(), q.zero_point.double().numpy()
    if q.axis == 0:
        scale, zero = scale[:, None], zero[:, None]
    return scale * (np.clip(np.rint(x / scale) + zero, q.qmin, q.qmax) - zero)


def qsnr(x: Array, y: Array) -> float:
    return float(10 * np.log10(np.sum(x**2) / np.sum((y - x) ** 2)))


def gelu(x: Array) -> Array:
    return x * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


@pytest.fixture(scope="module")
def expected(mlp: tuple[CalibratedGraph, Profile], images: torch.Tensor) -> dict[str, Array]:
    model, calibrated = Mlp(), mlp[0]
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in model.parameters())
    x = images.double().numpy()
    qw1, qw2 = rounded(calibrated, "first.weight", w1), rounded(calibrated, "second.weight", w2)
    y1 = x @ w1.T + b1
    z1 = rounded(calibrated, "first.input", x) @ qw1.T + b1
    h = gelu(y1)
    return {
        "w1": w1,
        "qw1": qw1,
        "x": x,
        "h": h,
        "y1": y1,
        "z1": z1,
        "w_only1": x @ qw1.T + b1,
        "y2": h @ w2.T + b2,
        "z2": rounded(calibrated, "second.input", gelu(z1)) @ qw2.T + b2,
        "alone2": rounded(calibrated, "second.input", h) @ qw2.T + b2,
        "w_only2": h @ qw2.T + b2,
    }


# The graph computes in float32: its values are off by some 1e-7 of their size, the noise (20 to 30 dB below
# the signal) by some 1e-5 of its own, and a value on the border of two codes may fall to the other side.
TOLERANCE = 2e-3


def test_accumulated_error(mlp, expected):
    first, second = mlp[1].layers
    assert [first.name, second.name] == ["first", "second"]
    for layer, x, y in ((first, "y1", "z1"), (second, "y2", "z2")):
        x, y = expected[x], expected[y]
        assert layer.output.qsnr_db == pytest.approx(qsnr(x, y), rel=TOLERANCE)
        assert layer.output.mse == pytest.approx(np.mean((x - y) ** 2), rel=TOLERANCE)
        cosine = np.sum(x * y) / np.linalg.norm(x) / np.linalg.norm(y)
        assert layer.output.cosine == pytest.approx(cosine, abs=1e-5)
        for share, values in ((layer.output.float_outliers, x), (layer.output.quantized_outliers, y)):
            exact = np.mean(np.abs(values - values.mean()) > 3 * values.std())
            assert share == pytest.approx(exact, abs=1 / values.size)


def test_isolated_error_and_whose_it_is(mlp, expected):
    for layer, (y, alone, only) in zip(
        mlp[1].layers, (("y1", "z1", "w_only1"), ("y2", "alone2", "w_only2")), strict=True
    ):
        y, alone, only = expected[y], expected[alone], expected[only]
        assert layer.isolated.qsnr_db == pytest.approx(qsnr(y, alone), rel=TOLERANCE)
        weight, inputs = np.sum((only - y) ** 2), np.sum((alone - only) ** 2)
        assert layer.isolated.weight_share == pytest.approx(weight / (weight + inputs), rel=TOLERANCE)
        error = alone - y
        shift = len(error) * np.sum(error.mean(0) ** 2) / np.sum(error**2)
        assert layer.isolated.mean_shift == pytest.approx(shift, rel=TOLERANCE)


def test_weight_error(mlp, expected):
    weight = mlp[1].layers[0].weight
    assert weight.bits == 4
    assert weight.granularity == "per_channel"
    assert weight.sqnr_db == pytest.approx(qsnr(expected["w1"], expected["qw1"]), rel=1e-5)


def test_the_inputs_range_and_what_is_clipped(mlp, expected):
    calibrated, found = mlp
    for layer, name in zip(found.layers, ("x", "h"), strict=True):
        x, source = expected[name], layer.input
        peaks = np.abs(x).max(0)
        # torch's median of an even number of channels is the lower one of the middle two
        median = np.sort(peaks)[(len(peaks) - 1) // 2]
        assert source.channel_ratio == pytest.approx(peaks.max() / median, rel=1e-5)
        assert source.range_sigmas == pytest.approx((x.max() - x.min()) / x.std(), rel=1e-5)
        (site,) = (s for s in calibrated.sites if s.name == f"{layer.name}.input")
        q = site.quantizer.qparams
        codes = np.rint(x / float(q.scale)) + float(q.zero_point)
        clipped = (codes < q.qmin) | (codes > q.qmax)
        noise = (rounded(calibrated, site.name, x) - x) ** 2
        assert clipped.any()
        assert source.clipped == pytest.approx(clipped.mean(), abs=1 / x.size)
        assert source.clipping_share == pytest.approx(noise[clipped].sum() / noise.sum(), rel=TOLERANCE)
    assert [layer.input.source for layer in found.layers] == ["other", "gelu"]


def test_end_to_end(mlp, expected):
    x, y = expected["y2"], expected["z2"]
    end = mlp[1].end_to_end
    p, q = (np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (x, y))
    cosines = np.sum(x * y, 1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert end.sqnr_db == pytest.approx(qsnr(x, y), rel=TOLERANCE)
    assert end.agreement == np.mean(x.argmax(1) == y.argmax(1))
    assert end.cosine == pytest.approx(cosines.mean(), abs=1e-5)
    assert end.kl == pytest.approx(np.mean(np.sum(p * np.log(p / q), 1)), rel=5e-3)


def test_batches_do_not_matter(mlp, images):
    calibrated, found = mlp
    again = profile(calibrated, torch.split(images, 5))
    assert again.images == found.images == 40
    for a, b in zip(again.layers, found.layers, strict=True):
        # Matrix products of other batch sizes may sum in another order: 1e-7 of the values, see TOLERANCE.
        assert a.output.qsnr_db == pytest.approx(b.output.qsnr_db, rel=TOLERANCE)
        assert a.isolated.mean_shift == pytest.approx(b.isolated.mean_shift, rel=TOLERANCE)


def test_the_outlier_line_is_numpys(mlp):
    layers = [*mlp[1].layers, *profile(mlp[0], [torch.randn(30, 6)]).layers]
    x = [layer.output.float_outliers for layer in layers]
    y = [layer.output.quantized_outliers for layer in layers]
    line = outlier_line(layers)
    slope, intercept = np.polyfit(x, y, 1)
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept), rel=1e-9, abs=1e-12)
    assert line.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-9)
    assert math.isnan(outlier_line(layers[:1]).slope)


def vit(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    settings = {
        "img_size": 16,
        "patch_size": 8,
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 2,
        "num_classes": 5,
    }
    return timm.create_model("vit_tiny_patch16_224", **(settings | options)).eval()


def pictures(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def test_a_vits_layers_products_and_blocks_are_found_in_order():
    roles = LINEAR | {"patch_conv.weight": "w", "attention_qk.input": "a", "attention_pv.input": "a"}
    found = profile(frozen(vit(), pictures(), recipe_of(roles)), [pictures()])
    block = ["attn.qkv", "attn.qk", "attn.pv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    names = [f"blocks.{i}.{name}" for i in range(2) for name in block]
    assert [layer.name for layer in found.layers] == ["patch_embed.proj", *names, "head"]
    assert [block.name for block in found.blocks] == ["blocks.0", "blocks.1"]
    by_name = {layer.name: layer for layer in found.layers}
    assert by_name["blocks.0.attn.qkv"].input.source == "layer_norm"
    assert by_name["blocks.0.attn.qk"].kind == "attention_qk"
    assert by_name["blocks.0.attn.qk"].isolated.weight_share == 0
    assert by_name["patch_embed.proj"].isolated.weight_share == 1  # its input stays float
    assert by_name["blocks.1.mlp.fc2"].output.qsnr_db < by_name["blocks.1.mlp.fc2"].isolated.qsnr_db


def test_a_block_is_compared_at_its_own_output():
    model, calibrated = vit(), frozen(vit(), pictures(), recipe_of(LINEAR))
    outputs: list[torch.Tensor] = []
    model.blocks[0].register_forward_hook(lambda _m, _i, y: outputs.append(y.detach()))
    model(pictures())
    found = profile(calibrated, [pictures()])
    same_values(found.blocks[0].output.histogram, outputs[0])


def same_values(histogram: Histogram, values: torch.Tensor) -> None:
    edges, counts, _ = histogram.trimmed(4096)
    expected = np.histogram(values.double().numpy(), edges)[0]
    # Two float32 programs computed the values: a few of the thousand may fall to the other side of an edge.
    assert counts.sum() == values.numel()
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 3


def test_quantizing_one_layer_leaves_the_others_without_error_of_their_own():
    recipe = recipe_of(LINEAR, include=["blocks.0.mlp.fc1"])
    found = profile(frozen(vit(), pictures(), recipe), [pictures()])
    for layer in found.layers:
        own = layer.name == "blocks.0.mlp.fc1"
        assert math.isfinite(layer.isolated.qsnr_db) == own
        assert layer.is_quantized == own
        before = layer.name in ("patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.proj")
        assert (layer.output.qsnr_db == math.inf) == before
    assert [layer.name for layer in found.worst(3)] == ["blocks.0.mlp.fc1"]


def test_the_sum_with_a_side_path_is_the_layers_output():
    model = vit()
    with torch.no_grad():
        model.blocks[0].mlp.fc1.weight[5] *= 60  # an outlier unit behind GELU
    plain = recipe_of(LINEAR)
    path = recipe_of(LINEAR, methods=[{"name": "outlier_side_path"}])
    found = []
    for recipe in (plain, path):
        layers = profile(frozen(model, pictures(), recipe), [pictures()]).layers
        found.append(next(layer for layer in layers if layer.name == "blocks.0.mlp.fc2"))
    without, with_path = found
    assert without.input.channel_ratio > 10
    assert with_path.input.channel_ratio < 5  # the unit is not what the quantizer has to cover
    assert with_path.isolated.qsnr_db > without.isolated.qsnr_db + 3
    outputs: list[torch.Tensor] = []
    model.blocks[0].mlp.fc2.register_forward_hook(lambda _m, _i, y: outputs.append(y.detach()))
    model(pictures())
    same_values(with_path.output.histogram, outputs[0])


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.conv2(self.conv1(x).relu()) + x).relu()


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layer1 = nn.Sequential(Residual(6), Residual(6))
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer1(self.stem(x).relu()).mean((2, 3)))


def test_a_cnns_layers_are_seen_behind_their_relu_and_blocks_at_their_end():
    roles = LINEAR | {"conv.input": "a", "conv.weight": "w", "conv.output": "a"}
    found = profile(frozen(Cnn(), pictures(), recipe_of(roles)), pictures().split(3))
    convs = [f"layer1.{i}.conv{j}" for i in range(2) for j in (1, 2)]
    assert [layer.name for layer in found.layers] == ["stem", *convs, "fc"]
    assert [block.name for block in found.blocks] == ["layer1.0", "layer1.1"]
    counts = found.layers[0].output.histogram.float_counts
    assert counts[: len(counts) // 2].sum() == 0  # nothing below zero
    assert found.layers[2].output.histogram.float_counts[: len(counts) // 2].sum() > 0  # no ReLU of its own


def test_integer_layers_belong_to_what_reads_them():
    recipe = parse(
        Recipe,
        {
            "name": "t",
            "specs": {
                "a": {"bits": 8},
                "w": {"bits": 8, "signed": True, "symmetric": True, "granularity": "per_channel"},
            },
            "roles": LINEAR | {"softmax.input": "a", "attention_pv.input": "a", "layer_norm.input": "a"},
            "methods": [{"name": "log_int_softmax"}, {"name": "integer_layer_norm"}],
        },
        "t",
    )
    found = profile(frozen(vit(), pictures(), recipe), [pictures()])
    by_name = {layer.name: layer for layer in found.layers}
    product, qkv = by_name["blocks.0.attn.pv"], by_name["blocks.0.attn.qkv"]
    assert math.isfinite(product.isolated.qsnr_db)
    assert 0 < qkv.isolated.weight_share < 1


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.fc(x))


def test_a_layer_called_twice_is_two_layers(images):
    found = profile(frozen(Twice(), images, recipe_of(LINEAR)), [images])
    assert [layer.name for layer in found.layers] == ["fc", "fc_2"]
    assert found.layers[1].input.range_sigmas != found.layers[0].input.range_sigmas


def test_the_first_layer_inherits_no_error():
    calibrated = frozen(vit(), pictures(), load_recipe("int8"))
    found = profile(calibrated, [pictures()])
    first = found.layers[0]
    assert first.name == "patch_embed.proj"
    assert first.output.qsnr_db == pytest.approx(first.isolated.qsnr_db, rel=1e-9)


def test_a_graph_that_does_not_quantize_is_refused(images):
    graph = capture(Mlp().eval(), images[:2])
    calibrated = calibrate(graph, recipe_of(LINEAR), lambda count: torch.split(images[:count], 8))
    with pytest.raises(BadInput, match="freeze"):
        profile(calibrated, [images])


def test_no_images_are_refused(mlp):
    with pytest.raises(BadInput, match="no images"):
        profile(mlp[0], [])


def test_infinite_images_are_refused_by_layer(mlp):
    with pytest.raises(BadInput, match="'first'"):
        profile(mlp[0], [torch.full((2, 6), torch.inf)])
