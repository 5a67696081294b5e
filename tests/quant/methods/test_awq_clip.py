import numpy as np
import pytest
import torch

from quant.kernels import fake_quantize
from quant.qparams import QParams, qparams_from_range
from quant.tuning.layer import Layer
from tests.quant.methods.captured import FORMATS, LAYERS, layers, tune, weight_error

FACTORS = [1.0 - i / 20 for i in range(10)]


def parts(layer: Layer) -> list[torch.Tensor]:
    """For every scale, which weights it serves."""
    weight, spec = layer.weight, layer.weight_site.spec
    if spec.granularity == "per_tensor":
        return [torch.ones_like(weight, dtype=torch.bool)]
    size = spec.group_size or weight[0].numel()
    index = torch.arange(weight.numel()) // size
    return [(index == i).reshape(weight.shape) for i in range(int(index.max()) + 1)]


def own_error(layer: Layer, inputs: torch.Tensor, part: torch.Tensor, quantized: torch.Tensor) -> float:
    """Squared change of the outputs when only ``part`` of the weight is quantized."""
    change = torch.where(part, quantized - layer.weight, 0.0)
    return float(layer.output(inputs, change, torch.zeros(len(change))).double().square().sum())


def clamped_grid(layer: Layer, values: torch.Tensor, factor: float) -> QParams:
    bound = values.abs().max() * factor
    values = values.clamp(-bound, bound)
    spec = layer.weight_site.spec.model_copy(update={"granularity": "per_tensor", "group_size": None})
    return qparams_from_range(values.min(), values.max(), spec)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", ["symmetric", "affine", "tensor"])
def test_every_scale_has_the_least_output_error_of_all_factors(form, name):
    check(layers(form)[name])


@pytest.mark.parametrize(("form", "name"), [("group", "fc"), ("affine_group", "mix"), ("group", "depthwise")])
def test_every_group_has_the_least_output_error_of_all_factors(form, name):
    check(layers(form)[name])


def check(layer: Layer) -> None:
    assert layer.bias is not None
    inputs = torch.cat(list(layer.quantized_inputs()))
    assert tune(layer, "awq_clip").applied
    chosen = layer.quantized_weight
    for part in parts(layer):
        tried = [
            fake_quantize(layer.weight, clamped_grid(layer, layer.weight[part], factor)) for factor in FACTORS
        ]
        best = min(own_error(layer, inputs, part, quantized) for quantized in tried)
        # float32 Gram matrices on one side, outputs on the other
        np.testing.assert_allclose(own_error(layer, inputs, part, chosen), best, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("form", FORMATS)
def test_the_layers_output_error_never_grows(form):
    gains = []
    for layer in layers(form).values():
        weight = layer.weight
        before = weight_error(layer, weight, layer.quantized_weight)
        note = tune(layer, "awq_clip")
        gains.append(weight_error(layer, weight, layer.quantized_weight) / before)
        assert torch.equal(layer.weight, weight)
        assert note.applied == (gains[-1] < 1.0)
    assert max(gains) <= 1.0
    assert min(gains) < 0.9


def test_eight_bits_are_searched_too_and_scales_along_inputs_are_not():
    note = tune(layers(FORMATS["group"] | {"bits": 8})["fc"], "awq_clip", up_to_bits=6)
    assert (note.applied, note.text) == (False, "its 8 bits are more than up_to_bits 6")
    note = tune(layers(FORMATS["symmetric"] | {"axis": 1})["fc"], "awq_clip")
    assert (note.applied, note.text) == (False, "its scales are not one per output channel")
