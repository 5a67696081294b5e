import pytest
import torch
from torch import nn

from quant.encoding import ActivationCodes, Encoding, freeze
from quant.graph.nodes import tensor_of
from tests.quant.methods.small_vit import SmallVit, calibrated, images, recipe, small_vit, sqnr

METHOD = {"name": "centred_gelu"}
BIAS = {"name": "bias_correction"}
SIDE_PATH = {"name": "outlier_side_path", "threshold": 1.5, "most": 0.2}


def hidden(model: SmallVit) -> torch.Tensor:
    """What GELU returns on the calibration images, rows [n, C]."""
    block = model.block
    with torch.no_grad():
        x = images()
        x = x + block.attention(block.norm1(x)) * (1.0 if block.gamma is None else block.gamma)
        return block.act(block.fc1(block.norm2(x))).flatten(0, 1)


@pytest.mark.parametrize("layer_scale", [False, True])
@pytest.mark.parametrize("others", [[], [SIDE_PATH]], ids=["alone", "side-path"])
def test_the_float_output_stays(others, layer_scale):
    model = small_vit(layer_scale=layer_scale)
    result = calibrated(model, recipe(*others, METHOD, BIAS))
    assert all(n.applied for n in result.notes)
    x = images(7, seed=3)
    # float32: sums of 64 products of size up to about 20, rounded in another order
    torch.testing.assert_close(result.reference(x), model(x), rtol=1e-4, atol=1e-4)


def test_constant_and_bias_are_the_formula():
    model = small_vit()
    result = calibrated(model, recipe(METHOD, BIAS))
    g = hidden(model).double()
    zero = torch.floor(127 * (g.max() + g.min()) / (g.max() - g.min()))
    step = g.max() / (127 + zero)
    centre = zero * step
    assert float(centre - g.min()) <= float(127 * step) <= 1.02 * float(centre - g.min())
    torch.testing.assert_close(
        tensor_of(result.graph, "block.fc2.centre").double(), centre, rtol=1e-5, atol=0
    )
    (site,) = (s for s in result.sites if s.name == "block.fc2.input")
    freeze(result, Encoding(ActivationCodes.SIGNED_SYMMETRIC))
    assert float(site.quantizer.qparams.scale) == pytest.approx(float(step), rel=1e-5)
    assert int(site.quantizer.qparams.zero_point) == 0
    fc2 = model.block.fc2
    bias = fc2.bias.double() + fc2.weight.double() @ (centre * torch.ones(fc2.in_features).double())
    torch.testing.assert_close(
        tensor_of(result.reference, "block.fc2.bias").double(), bias, rtol=1e-5, atol=1e-6
    )


def test_units_of_a_side_path_do_not_count_and_stay_uncentred():
    model = small_vit()
    result = calibrated(model, recipe(SIDE_PATH, METHOD, BIAS))
    units = tensor_of(result.graph, "block.fc2.side_units").tolist()
    g = hidden(model)
    kept = [c for c in range(g.shape[1]) if c not in units]
    low, high = g[:, kept].min(), g[:, kept].max()
    centre = tensor_of(result.graph, "block.fc2.centre")
    assert float(centre) == pytest.approx(float(high + low) / 2, rel=0.02)  # a whole number of 254 steps
    assert float(centre) < float(g.max()) / 2 - 0.01
    (pick,) = (n for n in result.graph.graph.nodes if "index_select" in str(n.target))
    assert "gelu" in pick.args[0].name


def test_symmetric_codes_lose_nothing_any_more():
    """Half of the hidden units are close to zero here, as in deep blocks."""
    model, x, found = small_vit(), images(32, seed=2), {}
    for name, methods in (("plain", ()), ("centred", (METHOD, BIAS))):
        only = recipe(*methods).model_copy(update={"include": ("block.fc2",)})
        result = calibrated(model, only)
        for codes in (ActivationCodes.UNSIGNED, ActivationCodes.SIGNED_SYMMETRIC):
            freeze(result, Encoding(codes))
            found[name, codes] = sqnr(result.graph(x), model(x))
    affine, symmetric = (
        found["plain", c] for c in (ActivationCodes.UNSIGNED, ActivationCodes.SIGNED_SYMMETRIC)
    )
    assert symmetric < affine - 3.0  # dB; half of the codes is 6 dB
    assert found["centred", ActivationCodes.SIGNED_SYMMETRIC] > affine - 0.5


class NoBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(24, 32), nn.Linear(32, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return result


@pytest.mark.parametrize(
    ("model", "methods", "reason"),
    [
        (NoBias(), (METHOD, BIAS), "it has no bias to fold into, or its weight is computed"),
        (
            small_vit(),
            (METHOD,),
            "the recipe names no bias_correction, without which rounded weights shift every output",
        ),
    ],
    ids=["no-bias", "no-correction"],
)
def test_it_says_why_it_declines(model, methods, reason):
    result = calibrated(model, recipe(*methods))
    assert [(n.applied, n.text) for n in result.notes if n.method == "centred_gelu"] == [(False, reason)]


def test_float_layers_are_left_alone():
    chosen = recipe(METHOD, BIAS).model_copy(update={"exclude": ("block.fc2",)})
    assert not [n for n in calibrated(small_vit(), chosen).notes if n.method == "centred_gelu"]
