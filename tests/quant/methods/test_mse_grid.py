import numpy as np
import pytest
import torch

from quant.layout import rows
from quant.qparams import qparams_from_range
from quant.tuning.layer import Layer
from tests.quant.methods.captured import FORMATS, layers, tune

FACTORS = [1.0 - 0.01 * i for i in range(81)]


def errors(layer: Layer, weight: torch.Tensor, norm: float) -> np.ndarray:
    """Σ |w − q|^norm of every scale."""
    change = (weight - layer.quantized_weight).abs().double()
    return rows(change**norm, layer.weight_site.spec).sum(1).numpy()


def best_errors(layer: Layer, weight: torch.Tensor, norm: float) -> np.ndarray:
    """The same for the best of all factors, one row after the other, in float64."""
    best = []
    spec = layer.weight_site.spec
    single = spec.model_copy(update={"granularity": "per_tensor", "group_size": None})
    for row in rows(weight, spec):
        found = []
        for factor in FACTORS:
            bound = row.abs().max() * factor
            clamped = row.clamp(-bound, bound)
            grid = qparams_from_range(clamped.min(), clamped.max(), single)
            scale, zero = grid.scale.double().numpy(), grid.zero_point.numpy()
            values = row.double().numpy()
            codes = np.clip(np.round(values / scale) + zero, grid.qmin, grid.qmax)
            found.append((np.abs(values - (codes - zero) * scale) ** norm).sum())
        best.append(min(found))
    return np.array(best)


@pytest.mark.parametrize(("form", "norm"), [(form, 2.4) for form in FORMATS] + [("affine", 2.0)])
def test_every_scale_is_the_best_of_all_factors(form, norm):
    for layer in layers(form).values():
        weight = layer.weight
        note = tune(layer, "mse_grid", norm=norm)
        assert note.applied
        # scales are float32: a value on the border of two codes may take the other one, at equal error
        np.testing.assert_allclose(
            errors(layer, weight, norm), best_errors(layer, weight, norm), rtol=1e-4, atol=1e-12
        )
        assert torch.equal(layer.weight, weight)


def test_no_scale_is_worse_than_min_max():
    for layer in layers("group").values():
        before = errors(layer, layer.weight, 2.0)
        tune(layer, "mse_grid", norm=2.0)
        after = errors(layer, layer.weight, 2.0)
        assert (after <= before).all()
        assert after.sum() < 0.9 * before.sum()


def test_a_better_grid_found_before_is_kept():
    layer = layers("group")["patch"]
    tune(layer, "mse_grid", norm=2.0)
    grid = layer.grid
    tune(layer, "mse_grid", norm=2.0, shrink=0.0)
    assert torch.equal(layer.grid.scale, grid.scale)


def test_wide_formats_are_left_alone():
    layer = layers(FORMATS["symmetric"] | {"bits": 8})["fc"]
    scale = layer.grid.scale
    note = tune(layer, "mse_grid")
    assert (note.applied, note.text) == (False, "its 8 bits are more than up_to_bits 6")
    assert torch.equal(layer.grid.scale, scale)
