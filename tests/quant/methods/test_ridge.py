import numpy as np
import pytest
import torch
from torch import nn

from quant.tuning.layer import Layer
from quant.tuning.moments import layer_moments
from tests.quant.methods.captured import FORMATS, LAYERS, layers, output_error, tune

TRAINING = [i for i in range(20) if i % 5 != 4]


def design(layer: Layer, channel: int, inputs: torch.Tensor) -> np.ndarray:
    """A: the output of one channel for every weight it has set to one, others to zero; and ones."""
    weight = layer.weight
    columns = []
    for index in np.ndindex(*weight.shape[1:]):
        unit = torch.zeros_like(weight, dtype=torch.float64)
        unit[(channel, *index)] = 1.0
        zero = torch.zeros(len(weight), dtype=torch.float64)
        columns.append(layer.channels_last(layer.output(inputs, unit, zero))[:, channel])
    return torch.stack([*columns, torch.ones_like(columns[0])], dim=1).numpy()


@pytest.mark.parametrize("name", LAYERS)
def test_the_change_is_numpys_least_squares_solution(name):
    layer = layers("symmetric", 3)[name]
    weight, bias = layer.weight, layer.bias
    assert bias is not None
    inputs = torch.cat(list(layer.quantized_inputs()))[TRAINING].double()
    wanted = torch.cat(layer.float_outputs)[TRAINING].double()
    lacking = layer.channels_last(wanted - layer.output(inputs, weight.double(), bias.double()))
    assert tune(layer, "ridge", strength=0.05).applied
    for channel in (0, len(weight) - 1):
        a = design(layer, channel, inputs)
        penalty = 0.05 * (a[:, :-1] ** 2).sum() / (a.shape[1] - 1)
        below = np.sqrt(penalty) * np.eye(a.shape[1])
        target = np.concatenate([lacking[:, channel].numpy(), np.zeros(a.shape[1])])
        change, *_ = np.linalg.lstsq(np.concatenate([a, below]), target, rcond=None)
        size = np.abs(change).max()
        # float32 second moments of about a thousand tokens
        found = (layer.weight - weight)[channel].flatten().numpy()
        np.testing.assert_allclose(found, change[:-1], rtol=0, atol=1e-4 * size)
        found = float((layer.bias - bias)[channel])
        assert found == pytest.approx(change[-1], abs=1e-4 * size)


@pytest.mark.parametrize("form", FORMATS)
def test_images_held_out_decide(form):
    applied = 0
    for layer in layers(form, 3).values():
        weight, bias, scale = layer.weight, layer.bias, layer.grid.scale

        def held_out_error(layer: Layer = layer) -> float:
            pairs = zip(torch.cat(list(layer.outputs())), torch.cat(layer.float_outputs), strict=True)
            return sum(float((a - b).square().sum()) for i, (a, b) in enumerate(pairs) if i % 5 == 4)

        before, whole = held_out_error(), output_error(layer)
        note = tune(layer, "ridge")
        if note.applied:
            applied += 1
            assert held_out_error() < before
            assert float(note.text.split()[3]) == pytest.approx(held_out_error() / before, abs=2e-3)
            assert output_error(layer) < whole
        else:
            assert torch.equal(layer.weight, weight)
            assert torch.equal(layer.bias, bias)
            assert torch.equal(layer.grid.scale, scale)
    assert applied >= 3


def test_what_only_fits_the_images_it_learned_from_is_not_kept():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 32, generator=generator)  # 32 tokens to learn from, 33 unknowns
    layer = layers(model=nn.Sequential(nn.Linear(32, 4)), x=x)["0"]
    weight = layer.weight
    for y in layer.float_outputs:
        y += torch.randn(y.shape, generator=generator)
    note = tune(layer, "ridge", strength=1e-6, tokens_per_input=0.0)
    assert (note.applied, note.text) == (False, "no gain on the images held out")
    assert torch.equal(layer.weight, weight)
    note = tune(layer, "ridge")
    assert (note.applied, note.text) == (False, "32 tokens are too few for 32 inputs")
    assert torch.equal(layer.weight, weight)


def test_a_layer_without_bias_gets_none():
    x = torch.rand(20, 9, 8, generator=torch.Generator().manual_seed(0))
    layer = layers(model=nn.Sequential(nn.Linear(8, 4, bias=False)), x=x)["0"]
    for y in layer.float_outputs:
        y *= 1.3
    before = output_error(layer)
    assert tune(layer, "ridge").applied
    assert layer.bias is None
    assert output_error(layer) < 0.5 * before


def test_weights_that_a_side_path_carries_stay_zero():
    layer = layers("symmetric", 3)["fc"]
    weight = layer.weight.clone()
    weight[:, [1, 7]] = 0.0
    layer.set_weight(weight)
    layer.clipped_units = (1, 7)
    learned, _ = layer_moments(layer)
    assert not learned.gram[:, [1, 7]].any()
    assert tune(layer, "ridge").applied
    assert not layer.weight[:, [1, 7]].any()
    assert not torch.equal(layer.weight, weight)
