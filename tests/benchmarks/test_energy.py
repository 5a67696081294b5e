import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.energy import MODEL, modelled
from quant.graph import capture
from quant.recipe import load_recipe


@pytest.fixture(scope="module")
def graph() -> torch.fx.GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    return capture(model, torch.randn(2, 3, 4, 4), True)


def test_the_figure_is_horowitz_by_hand(graph: torch.fx.GraphModule) -> None:
    found = modelled(graph, None, measured_mj=0.5)
    assert found is not None
    macs, weights, values = 48 * 32 + 32 * 10, 48 * 32 + 32 * 10, 48 + 32 + 32 + 10
    # fp32: 3.7 pJ a product and 0.9 pJ a sum; DRAM 1.3 to 2.6 nJ and SRAM of 1 MB 100 pJ for 64 bits.
    assert found.arithmetic_mj == pytest.approx(1e3 * macs * 4.6e-12)
    assert found.activations_mj == pytest.approx(1e3 * values * 32 / 64 * 100e-12)
    assert 1e3 * weights * 0.5 * 1.3e-9 <= found.weights_mj <= 1e3 * weights * 0.5 * 2.6e-9
    assert found.modelled_mj == pytest.approx(found.arithmetic_mj + found.weights_mj + found.activations_mj)
    assert (found.ratio, found.measured_mj, found.model) == (1.0, 0.5, MODEL)


def test_int8_takes_less_and_weight_only_saves_no_arithmetic(graph: torch.fx.GraphModule) -> None:
    base, int8, weights = (modelled(graph, load_recipe(r) if r else None) for r in (None, "int8", "w4a16"))
    assert base is not None
    assert int8 is not None
    assert weights is not None
    assert int8.ratio == pytest.approx(base.modelled_mj / int8.modelled_mj)
    assert int8.weights_mj == pytest.approx(base.weights_mj / 4)
    assert int8.arithmetic_mj < base.arithmetic_mj / 10
    assert weights.arithmetic_mj == pytest.approx(base.arithmetic_mj)
    assert np.isclose(weights.weights_mj, base.weights_mj / 8, rtol=0.3)


def test_what_the_model_does_not_know_is_left_out(graph: torch.fx.GraphModule) -> None:
    assert modelled(graph, load_recipe("fp8")) is None
