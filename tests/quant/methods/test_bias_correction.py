import torch
from torch import nn

from quant.calibrate import calibrate
from quant.encoding import Encoding, freeze
from quant.graph import capture
from quant.tuning.layer import Layer
from tests.quant.methods.captured import FORMATS, Net, images, layers, recipe, tune


def mean_shift(layer: Layer) -> float:
    """The largest difference between a channel's mean output and that of the float layer."""
    found, wanted = (
        torch.cat([layer.channels_last(y) for y in outputs]).double().mean(0)
        for outputs in (layer.outputs(), layer.float_outputs)
    )
    return float((found - wanted).abs().max())


def test_the_mean_of_every_output_channel_becomes_that_of_the_float_layer():
    for layer in layers("affine_group", 3).values():
        assert mean_shift(layer) > 1e-3
        assert tune(layer, "bias_correction").applied
        assert mean_shift(layer) < 1e-6  # float32 outputs of size 1, averaged over hundreds of tokens


def test_in_a_recipe_the_last_layer_makes_up_for_all_before_it():
    model, x = Net().eval(), images()
    found = {}
    for name, methods in (("plain", ()), ("corrected", ({"name": "bias_correction"},))):
        chosen = recipe(FORMATS["symmetric"], 4, *methods)
        result = calibrate(capture(model, x[:2]), chosen, lambda n: torch.split(x[:n], 4))
        freeze(result, Encoding())
        found[name] = float((result.graph(x) - model(x)).detach().mean((0, 1)).abs().max())
    assert found["plain"] > 1e-2
    assert found["corrected"] < 1e-6


def test_a_layer_without_bias_is_named():
    layer = layers(model=nn.Sequential(nn.Linear(24, 4, bias=False)))["0"]
    weight = layer.weight
    note = tune(layer, "bias_correction")
    assert (note.applied, note.text) == (False, "it has no bias")
    assert torch.equal(layer.weight, weight)
