"""Which layers and blocks of an architecture a profile compares, and where."""

import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from quant.profile import profile
from quant.profile.histogram import Histogram
from quant.recipe import Recipe, load_recipe, parse
from tests.quant.profile.small import LINEAR, frozen, recipe_of


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(1))


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
