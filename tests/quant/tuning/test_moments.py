import pytest
import torch

from quant.tuning.moments import layer_moments
from tests.quant.methods.captured import LAYERS, images, layers


@pytest.mark.parametrize("name", LAYERS)
def test_the_error_of_a_change_is_that_of_the_changed_layers_outputs(name):
    layer = layers("symmetric", 4)[name]
    weight, bias = layer.weight, layer.bias
    assert bias is not None
    generator = torch.Generator().manual_seed(0)
    step = torch.randn(weight.shape, generator=generator) * 0.1
    shift = torch.randn(bias.shape, generator=generator) * 0.1
    inputs, wanted = torch.cat(list(layer.quantized_inputs())), torch.cat(layer.float_outputs)
    rows = layer.groups, len(weight) // layer.groups, -1
    for moments, chosen in zip(
        layer_moments(layer), (lambda i: i % 5 != 4, lambda i: i % 5 == 4), strict=True
    ):
        index = [i for i in range(len(inputs)) if chosen(i)]
        found = layer.output(inputs[index], weight + step, bias + shift)
        truth = float((found - wanted[index]).double().square().sum())
        change = torch.cat([step.reshape(rows), shift.reshape(rows)], dim=-1)
        assert moments.error(change) == pytest.approx(truth, rel=1e-4)  # float32 outputs
        found = layer.output(inputs[index], weight + step, bias)
        truth = float((found - wanted[index]).double().square().sum())
        assert moments.error(step.reshape(rows)) == pytest.approx(truth, rel=1e-4)
        assert moments.tokens == layer.channels_last(found).shape[0]


def test_few_images_are_both_learned_from_and_judged_by():
    learned, held_out = layer_moments(layers(x=images(4))["fc"])
    assert held_out is learned
