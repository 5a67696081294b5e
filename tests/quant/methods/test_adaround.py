import itertools

import pytest
import torch
from torch import nn

from quant.methods.adaround import AdaRoundOptions, adaround
from quant.qparams import QParams
from quant.tuning.layer import Layer
from quant.tuning.moments import Moments
from tests.quant.methods.captured import FORMATS, layers, tune


def held_out_error(layer: Layer) -> float:
    pairs = zip(torch.cat(list(layer.outputs())), torch.cat(layer.float_outputs), strict=True)
    return sum(
        float((a.double() - b.double()).square().sum()) for i, (a, b) in enumerate(pairs) if i % 5 == 4
    )


@pytest.mark.parametrize("seed", range(6))
def test_it_comes_close_to_the_best_of_all_64_roundings(seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, 6, generator=generator)
    x = torch.randn(200, 6, generator=generator) @ torch.randn(6, 6, generator=generator)  # correlated inputs
    rows = torch.cat([x, torch.ones(200, 1)], dim=1).double()
    moments = Moments((rows.T @ rows)[None], torch.zeros(1, 1, 7, dtype=torch.float64), 0.0, 200)
    scale = weight.abs().amax(dim=1) / 3
    grid = QParams(scale, torch.zeros(1, dtype=torch.int32), qmin=-3, qmax=3, axis=0)

    def error(codes: torch.Tensor) -> float:
        """Squared output error over the tokens."""
        return float(((codes.clamp(-3, 3) * scale - weight) @ x.T).double().square().sum())

    rounded = adaround(weight, grid, moments, AdaRoundOptions()) / scale
    codes, below = torch.round(rounded), torch.floor(weight / scale)
    torch.testing.assert_close(rounded, codes, rtol=0, atol=1e-5)
    assert set((codes - below).flatten().tolist()) <= {0.0, 1.0}
    best = min(error(below + torch.tensor([choice])) for choice in itertools.product((0, 1), repeat=6))
    assert error(codes) <= 1.6 * best  # the relaxed problem has local minima; 1.56 on the worst of these
    assert error(codes) <= error(torch.round(weight / scale))


@pytest.mark.parametrize("form", FORMATS)
def test_images_held_out_decide_and_the_result_is_on_the_grid(form):
    gains = []
    for layer in layers(form).values():
        weight, grid, before = layer.weight, layer.grid, held_out_error(layer)
        note = tune(layer, "adaround")
        gains.append(held_out_error(layer) / before)
        assert torch.equal(layer.grid.scale, grid.scale)
        if note.applied:
            assert gains[-1] < 1.0
            assert float(note.text.split()[3]) == pytest.approx(gains[-1], abs=2e-3)
            torch.testing.assert_close(layer.quantized_weight, layer.weight, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(layer.weight, weight)
    assert max(gains) <= 1.0
    assert min(gains) < 0.8


def test_what_only_fits_the_images_it_learned_from_is_not_kept():
    torch.manual_seed(0)
    x = torch.randn(10, 32)  # 8 tokens to learn from, 32 weights for each output
    layer = layers(model=nn.Sequential(nn.Linear(32, 4)), x=x)["0"]
    weight = layer.weight
    note = tune(layer, "adaround")
    assert (note.applied, note.text) == (False, "no gain over plain rounding on the images held out")
    assert torch.equal(layer.weight, weight)


def test_it_is_deterministic():
    one, two = (layers("group")["fc"] for _ in range(2))
    tune(one, "adaround")
    tune(two, "adaround")
    assert torch.equal(one.weight, two.weight)


def test_weights_that_a_side_path_carries_stay_zero():
    for form in ("symmetric", "affine"):
        layer = layers(form)["fc"]
        weight = layer.weight.clone()
        weight[:, [1, 7]] = 0.0
        layer.set_weight(weight)
        layer.clipped_units = (1, 7)
        tune(layer, "adaround")
        assert not layer.quantized_weight[:, [1, 7]].any()


def test_wide_formats_are_left_alone():
    note = tune(layers(FORMATS["symmetric"] | {"bits": 8})["fc"], "adaround")
    assert (note.applied, note.text) == (False, "its 8 bits are more than up_to_bits 6")
