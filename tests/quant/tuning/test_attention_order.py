from functools import cache
from typing import Any

import numpy as np
import pytest
import timm
import torch
from scipy.stats import kendalltau
from torch import Tensor, fx, nn

from quant.calibrate import calibrate
from quant.calibrated import CalibratedGraph
from quant.encoding import Encoding, freeze, set_quantizing
from quant.errors import BadInput
from quant.graph import capture
from quant.recipe import Recipe
from quant.tuning.attention_order import attention_order, kendall_tau
from quant.tuning.objectives import sample_pairs

WEIGHT = {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@cache
def tiny_vit() -> fx.GraphModule:
    torch.manual_seed(0)
    options: dict[str, Any] = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3}
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=10, **options)
    for name, parameter in model.named_parameters():
        if "qkv.weight" in name:
            nn.init.normal_(parameter, std=0.3)  # scores that differ
    return capture(model.eval(), normal(2, 3, 32, 32))


def calibrated(bits: int) -> CalibratedGraph:
    recipe = Recipe.model_validate(
        {
            "name": "t",
            "specs": {"a": {"bits": bits}, "w": WEIGHT | {"bits": bits}},
            "roles": {"linear.input": "a", "linear.weight": "w", "attention_qk.input": "a"},
        }
    )
    found = calibrate(tiny_vit(), recipe, lambda _: [normal(8, 3, 32, 32)])
    freeze(found, Encoding())
    return found


def test_tau_over_all_pairs_is_scipys_with_ties() -> None:
    a = normal(4, 30)
    b = torch.round(a + normal(4, 30, seed=1))  # rounded: ties on one side
    a[0] = torch.round(a[0])  # and on both
    expected = [kendalltau(x, y).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    # integer counts, then a root and a division in float64
    np.testing.assert_allclose(kendall_tau(a, b, sample_pairs(30, 10**6, 0)).numpy(), expected, rtol=1e-12)


def test_tau_over_some_pairs_estimates_it() -> None:
    a = normal(200, 60)
    b = a + normal(200, 60, seed=1)
    every, some = (kendall_tau(a, b, sample_pairs(60, count, 0)).mean() for count in (1770, 400))
    # 200 rows: the standard error of the mean is below 1 / sqrt(200 · 400)
    assert float(some) == pytest.approx(float(every), abs=0.015)


def test_a_row_without_order_is_not_a_number() -> None:
    assert kendall_tau(torch.ones(1, 5), normal(1, 5), sample_pairs(5, 10, 0)).isnan().all()


def test_the_order_of_a_graph_is_scipys_over_its_scores() -> None:
    graph, images = calibrated(4), normal(3, 3, 32, 32, seed=5)
    found = attention_order(graph, [images[:2], images[2:]], pairs=10**6, rows=10**6)

    operands: dict[str, Tensor] = {}
    for side in "ab":
        quantizer = graph.graph.get_submodule(f"blocks.0.attn.qk.{side}_quantizer")
        quantizer.register_forward_hook(
            lambda _, given, value, side=side: operands.update({side: value, f"float {side}": given[0]})
        )
    with torch.no_grad():
        graph.graph(images)
        quantized = operands["a"] @ operands["b"]
        set_quantizing(graph, None)
        graph.graph(images)
        wanted = operands["float a"] @ operands["float b"]
    rows = zip(wanted.reshape(-1, 17).numpy(), quantized.reshape(-1, 17).numpy(), strict=True)
    expected = np.mean([kendalltau(x, y).statistic for x, y in rows])
    assert list(found) == ["blocks.0.attn.qk", "blocks.1.attn.qk"]
    # float32 scores computed over other batch sizes may tie or swap in the last bit
    assert found["blocks.0.attn.qk"] == pytest.approx(expected, abs=1e-3)


def test_more_bits_keep_more_of_the_order_and_float_all() -> None:
    images = [normal(4, 3, 32, 32, seed=5)]
    four, eight = (attention_order(calibrated(bits), images) for bits in (4, 8))
    assert all(four[name] < eight[name] for name in four)
    float_graph = calibrated(8)
    set_quantizing(float_graph, None)
    assert min(attention_order(float_graph, images).values()) > 0.999


def test_without_attention_or_images_it_says_so() -> None:
    with pytest.raises(BadInput, match="no images"):
        attention_order(calibrated(8), [])
    recipe = Recipe.model_validate({"name": "t", "specs": {"w": WEIGHT}, "roles": {"linear.weight": "w"}})
    plain = calibrate(capture(nn.Linear(4, 3).eval(), normal(2, 4)), recipe, lambda _: [normal(8, 4)])
    with pytest.raises(BadInput, match="no attention"):
        attention_order(plain, [normal(2, 4)])
