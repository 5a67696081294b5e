"""The profile of small models against the same figures computed at once, in float64, with numpy."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from quant.calibrate import calibrate
from quant.calibrated import CalibratedGraph
from quant.errors import BadInput
from quant.graph import capture
from quant.profile import Profile, profile
from quant.profile.compare import outlier_line
from tests.quant.profile.small import LINEAR, frozen, recipe_of

Array = NDArray[np.float64]


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 9), nn.Linear(9, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(nn.functional.gelu(self.first(x)))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor([1, 1, 1, 1, 1, 9.0])


@pytest.fixture(scope="module")
def mlp(images: torch.Tensor) -> tuple[CalibratedGraph, Profile]:
    calibrated = frozen(Mlp(), images, recipe_of(LINEAR))
    return calibrated, profile(calibrated, torch.split(images, 16))


def rounded(calibrated: CalibratedGraph, name: str, x: Array) -> Array:
    """What the site's scale and zero point make of ``x``, by the definition of affine quantization."""
    (site,) = (site for site in calibrated.sites if site.name == name)
    q = site.quantizer.qparams
    scale, zero = q.scale.double().numpy(), q.zero_point.double().numpy()
    if q.axis == 0:
        scale, zero = scale[:, None], zero[:, None]
    return scale * (np.clip(np.rint(x / scale) + zero, q.qmin, q.qmax) - zero)


def qsnr(x: Array, y: Array) -> float:
    return float(10 * np.log10(np.sum(x**2) / np.sum((y - x) ** 2)))


def gelu(x: Array) -> Array:
    return x * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


@pytest.fixture(scope="module")
def expected(mlp: tuple[CalibratedGraph, Profile], images: torch.Tensor) -> dict[str, Array]:
    model, calibrated = Mlp(), mlp[0]
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in model.parameters())
    x = images.double().numpy()
    qw1, qw2 = rounded(calibrated, "first.weight", w1), rounded(calibrated, "second.weight", w2)
    y1 = x @ w1.T + b1
    z1 = rounded(calibrated, "first.input", x) @ qw1.T + b1
    h = gelu(y1)
    return {
        "w1": w1,
        "qw1": qw1,
        "x": x,
        "h": h,
        "y1": y1,
        "z1": z1,
        "w_only1": x @ qw1.T + b1,
        "y2": h @ w2.T + b2,
        "z2": rounded(calibrated, "second.input", gelu(z1)) @ qw2.T + b2,
        "alone2": rounded(calibrated, "second.input", h) @ qw2.T + b2,
        "w_only2": h @ qw2.T + b2,
    }


# The graph computes in float32: its values are off by some 1e-7 of their size, the noise (20 to 30 dB below
# the signal) by some 1e-5 of its own, and a value on the border of two codes may fall to the other side.
TOLERANCE = 2e-3


def test_accumulated_error(mlp, expected):
    first, second = mlp[1].layers
    assert [first.name, second.name] == ["first", "second"]
    for layer, x, y in ((first, "y1", "z1"), (second, "y2", "z2")):
        x, y = expected[x], expected[y]
        assert layer.output.qsnr_db == pytest.approx(qsnr(x, y), rel=TOLERANCE)
        assert layer.output.mse == pytest.approx(np.mean((x - y) ** 2), rel=TOLERANCE)
        cosine = np.sum(x * y) / np.linalg.norm(x) / np.linalg.norm(y)
        assert layer.output.cosine == pytest.approx(cosine, abs=1e-5)
        for share, values in ((layer.output.float_outliers, x), (layer.output.quantized_outliers, y)):
            exact = np.mean(np.abs(values - values.mean()) > 3 * values.std())
            assert share == pytest.approx(exact, abs=1 / values.size)


def test_isolated_error_and_whose_it_is(mlp, expected):
    for layer, (y, alone, only) in zip(
        mlp[1].layers, (("y1", "z1", "w_only1"), ("y2", "alone2", "w_only2")), strict=True
    ):
        y, alone, only = expected[y], expected[alone], expected[only]
        assert layer.isolated.qsnr_db == pytest.approx(qsnr(y, alone), rel=TOLERANCE)
        weight, inputs = np.sum((only - y) ** 2), np.sum((alone - only) ** 2)
        assert layer.isolated.weight_share == pytest.approx(weight / (weight + inputs), rel=TOLERANCE)
        error = alone - y
        shift = len(error) * np.sum(error.mean(0) ** 2) / np.sum(error**2)
        assert layer.isolated.mean_shift == pytest.approx(shift, rel=TOLERANCE)


def test_weight_error(mlp, expected):
    weight = mlp[1].layers[0].weight
    assert weight.bits == 4
    assert weight.granularity == "per_channel"
    assert weight.sqnr_db == pytest.approx(qsnr(expected["w1"], expected["qw1"]), rel=1e-5)


def test_the_inputs_range_and_what_is_clipped(mlp, expected):
    calibrated, found = mlp
    for layer, name in zip(found.layers, ("x", "h"), strict=True):
        x, source = expected[name], layer.input
        peaks = np.abs(x).max(0)
        # torch's median of an even number of channels is the lower one of the middle two
        median = np.sort(peaks)[(len(peaks) - 1) // 2]
        assert source.channel_ratio == pytest.approx(peaks.max() / median, rel=1e-5)
        assert source.range_sigmas == pytest.approx((x.max() - x.min()) / x.std(), rel=1e-5)
        (site,) = (s for s in calibrated.sites if s.name == f"{layer.name}.input")
        q = site.quantizer.qparams
        codes = np.rint(x / float(q.scale)) + float(q.zero_point)
        clipped = (codes < q.qmin) | (codes > q.qmax)
        noise = (rounded(calibrated, site.name, x) - x) ** 2
        assert clipped.any()
        assert source.clipped == pytest.approx(clipped.mean(), abs=1 / x.size)
        assert source.clipping_share == pytest.approx(noise[clipped].sum() / noise.sum(), rel=TOLERANCE)
    assert [layer.input.source for layer in found.layers] == ["other", "gelu"]


def test_end_to_end(mlp, expected):
    x, y = expected["y2"], expected["z2"]
    end = mlp[1].end_to_end
    p, q = (np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (x, y))
    cosines = np.sum(x * y, 1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert end.sqnr_db == pytest.approx(qsnr(x, y), rel=TOLERANCE)
    assert end.agreement == np.mean(x.argmax(1) == y.argmax(1))
    assert end.cosine == pytest.approx(cosines.mean(), abs=1e-5)
    assert end.kl == pytest.approx(np.mean(np.sum(p * np.log(p / q), 1)), rel=5e-3)


def test_batches_do_not_matter(mlp, images):
    calibrated, found = mlp
    again = profile(calibrated, torch.split(images, 5))
    assert again.images == found.images == 40
    for a, b in zip(again.layers, found.layers, strict=True):
        # Matrix products of other batch sizes may sum in another order: 1e-7 of the values, see TOLERANCE.
        assert a.output.qsnr_db == pytest.approx(b.output.qsnr_db, rel=TOLERANCE)
        assert a.isolated.mean_shift == pytest.approx(b.isolated.mean_shift, rel=TOLERANCE)


def test_the_outlier_line_is_numpys(mlp):
    layers = [*mlp[1].layers, *profile(mlp[0], [torch.randn(30, 6)]).layers]
    x = [layer.output.float_outliers for layer in layers]
    y = [layer.output.quantized_outliers for layer in layers]
    line = outlier_line(layers)
    slope, intercept = np.polyfit(x, y, 1)
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept), rel=1e-9, abs=1e-12)
    assert line.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-9)
    assert math.isnan(outlier_line(layers[:1]).slope)


def test_a_graph_that_does_not_quantize_is_refused(images):
    graph = capture(Mlp().eval(), images[:2])
    calibrated = calibrate(graph, recipe_of(LINEAR), lambda count: torch.split(images[:count], 8))
    with pytest.raises(BadInput, match="freeze"):
        profile(calibrated, [images])


def test_no_images_are_refused(mlp):
    with pytest.raises(BadInput, match="no images"):
        profile(mlp[0], [])


def test_infinite_images_are_refused_by_layer(mlp):
    with pytest.raises(BadInput, match="'first'"):
        profile(mlp[0], [torch.full((2, 6), torch.inf)])
