import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from quant.errors import BadInput
from quant.methods import make_method
from quant.methods.gptq import GptqOptions, gptq_round
from quant.tuning.gram import input_gram, quadratic_error, spread
from quant.tuning.layer import Layer
from tests.quant.methods.captured import FORMATS, LAYERS, layers, tune, weight_error

cached = functools.cache(layers)


def obq_codes(w, h, scale, zero, low, high, damp=0.01, act_order=True):
    """Every column with the inverse of the remaining Hessian, computed anew."""
    w, h = w.copy(), h.copy()
    dead = np.diag(h) == 0
    h[dead, dead] = 1.0
    w[:, dead] = 0.0
    h += damp * np.diag(h).mean() * np.eye(len(h))
    order = np.argsort(-np.diag(h), kind="stable") if act_order else np.arange(len(h))
    codes = np.zeros(w.shape, dtype=int)
    left = list(order)
    for column in order:
        inverse = np.linalg.inv(h[np.ix_(left, left)])
        i = left.index(column)
        code = np.clip(np.round(w[:, column] / scale[:, column] + zero[:, column]), low, high)
        codes[:, column] = code
        error = w[:, column] - (code - zero[:, column]) * scale[:, column]
        w[:, left] -= np.outer(error, inverse[i] / inverse[i, i])
        left.remove(column)
    return codes


def grouped(layer: Layer, value: torch.Tensor) -> np.ndarray:
    return value.double().reshape(layer.groups, -1, layer.weight[0].numel()).numpy()


def scales(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    grid = layer.grid
    return spread(grid.scale, layer.weight, grid), spread(grid.zero_point, layer.weight, grid)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("act_order", [True, False])
def test_codes_are_those_of_the_plain_algorithm(form, name, act_order):
    layer = cached(form)[name]
    gram = input_gram(layer)
    rounded, _ = gptq_round(layer.weight, gram, layer.grid, GptqOptions(act_order=act_order))
    scale, zero = scales(layer)
    codes = torch.round(rounded / scale + zero)
    # the codes are whole numbers up to float32 rounding: the weight stays on its grid
    torch.testing.assert_close(rounded, (codes - zero) * scale, rtol=1e-6, atol=1e-7)
    parts = [grouped(layer, t) for t in (layer.weight, scale, zero, codes)]
    for group, (w, s, z, found) in enumerate(zip(*parts, strict=True)):
        wanted = obq_codes(w, gram[group].numpy(), s, z, layer.grid.qmin, layer.grid.qmax, 0.01, act_order)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("form", FORMATS)
def test_the_output_error_is_below_that_of_rounding(form):
    for layer in layers(form).values():
        weight, plain = layer.weight, layer.quantized_weight
        before = weight_error(layer, weight, plain)
        # float32 Gram matrices, summed over 5 batches
        assert quadratic_error(layer, weight - plain, input_gram(layer)) == pytest.approx(before, rel=1e-4)
        note = tune(layer, "gptq")
        after = weight_error(layer, weight, layer.quantized_weight)
        assert after < 0.99 * before
        assert note.applied
        assert float(note.text.split()[2]) == pytest.approx(after / before, abs=1e-3)
        torch.testing.assert_close(layer.quantized_weight, layer.weight, rtol=1e-6, atol=1e-7)


def test_the_block_length_changes_nothing_but_the_order_of_sums():
    layer = cached("group")["fc"]
    gram = input_gram(layer)
    one, many = (gptq_round(layer.weight, gram, layer.grid, GptqOptions(block=b))[0] for b in (1, 64))
    assert torch.equal(one, many)


def test_inputs_that_are_always_zero_get_weight_zero():
    layer = cached("symmetric")["mix"]
    gram = input_gram(layer)
    gram[:, [2, 5], :] = 0.0
    gram[:, :, [2, 5]] = 0.0
    rounded, _ = gptq_round(layer.weight, gram, layer.grid, GptqOptions())
    assert not rounded[:, [2, 5]].any()
    scale, zero = scales(layer)
    wanted = obq_codes(
        *(grouped(layer, layer.weight)[0], gram[0].numpy(), scale.double().numpy(), zero.numpy()),
        *(layer.grid.qmin, layer.grid.qmax),
    )
    np.testing.assert_array_equal(torch.round(rounded / scale).numpy(), wanted)


def test_wide_formats_are_left_alone():
    layer = layers(FORMATS["symmetric"] | {"bits": 8})["fc"]
    weight = layer.weight
    note = tune(layer, "gptq")
    assert (note.applied, note.text) == (False, "its 8 bits are more than up_to_bits 6")
    assert torch.equal(layer.weight, weight)


def test_formats_without_uniform_codes_are_left_alone():
    fp8 = {"bits": 8, "signed": True, "symmetric": True, "scheme": "fp8_e4m3", "granularity": "per_channel"}
    note = tune(layers(fp8)["fc"], "gptq", up_to_bits=8)
    assert (note.applied, note.text) == (False, "its codes are 'fp8_e4m3', not uniform")


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", FORMATS)
def test_each_row_takes_the_factor_with_the_least_error(form, name):
    layer = cached(form)[name]
    weight, gram, factors = layer.weight, input_gram(layer), (0.93, 0.97, 1.03)
    rounded, grid = gptq_round(weight, gram, layer.grid, GptqOptions(factors=factors))
    own = layer.grid.axis == 0 or layer.grid.group_size is not None

    def errors(found):
        rows = (weight - found).double().reshape(layer.groups, -1, gram.shape[-1])
        return ((rows @ gram) * rows).sum(-1).flatten()

    alone = []
    for factor in (1.0, *(factors if own else ())):
        scaled = replace(layer.grid, scale=(layer.grid.scale.double() * factor).float())
        alone.append(gptq_round(weight, gram, scaled, GptqOptions())[0])
    each = torch.stack([errors(found) for found in alone])
    torch.testing.assert_close(errors(rounded), each.amin(0), rtol=1e-4, atol=0)  # weights in float32
    if own:
        assert len(each.argmin(0).unique()) > 1  # otherwise the choice is not seen
    scale, zero = spread(grid.scale, weight, grid), spread(grid.zero_point, weight, grid)
    codes = torch.round(rounded / scale + zero)
    assert int(codes.min()) >= grid.qmin
    assert int(codes.max()) <= grid.qmax
    torch.testing.assert_close(rounded, (codes - zero) * scale, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_a_factor_that_gives_no_scale_is_refused(factor):
    with pytest.raises(BadInput, match="factors"):
        make_method("gptq", {"factors": [0.9, factor]})
