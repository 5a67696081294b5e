"""Integer layers follow the fake-quant layers around them, and pass the float operators' gradient."""

import copy

import pytest
import torch
from torch import Tensor, nn

from quant.fake_quantize import FakeQuantize
from quant.integer.modules import IntegerLayerNorm, LogIntSoftmax, ShiftMatMul
from quant.spec import QuantSpec

Norm = tuple[nn.Module, FakeQuantize, FakeQuantize, tuple[Tensor, Tensor, Tensor]]


def calibrated(x: Tensor, name: str = "q", **fields: object) -> FakeQuantize:
    quantizer = FakeQuantize(QuantSpec.activation(8, **fields), name)
    quantizer.observe()
    quantizer(x)
    quantizer.freeze()
    quantizer.quantize()
    return quantizer


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def norm() -> Norm:
    x, gamma, beta = normal(3, 7, 16) * torch.arange(1, 17), normal(16, seed=1), normal(16, seed=2)
    factors = {"largest": 5}
    options = {
        "granularity": "per_channel",
        "axis": -1,
        "observer": "power_of_two",
        "observer_options": factors,
    }
    source = calibrated(x, symmetric=True, **options)
    result = calibrated(nn.functional.layer_norm(x, (16,), gamma, beta, 1e-6))
    return IntegerLayerNorm("norm", 1e-6, 8, source, result), source, result, (x, gamma, beta)


def test_layer_norm_is_integer_only_while_both_sides_quantize(norm: Norm) -> None:
    layer, source, result, (x, gamma, beta) = norm
    exact = nn.functional.layer_norm(x, (16,), gamma, beta, 1e-6)
    for quantizer in (source, result):
        quantizer.off()
        assert torch.equal(layer(x, gamma, beta), exact)
        quantizer.quantize()
    codes = layer(source(x), gamma, beta) / result.scale
    assert float((codes - codes.round()).abs().max()) < 1e-4  # whole numbers, times a float32 scale and back
    largest = exact.abs().amax()
    assert float((codes * result.scale - exact).abs().max()) < 0.05 * float(largest)


def test_layer_norm_passes_the_float_gradient(norm: Norm) -> None:
    layer, source, _, (x, gamma, beta) = norm
    ours, exact = (source(x).clone().requires_grad_() for _ in range(2))
    weight = normal(3, 7, 16, seed=5)
    (layer(ours, gamma, beta) * weight).sum().backward()
    (nn.functional.layer_norm(exact, (16,), gamma, beta, 1e-6) * weight).sum().backward()
    assert ours.grad is not None
    assert torch.allclose(ours.grad, exact.grad, rtol=1e-5, atol=1e-7)


def test_softmax_and_product_follow_the_scores() -> None:
    x, v = normal(2, 3, 10, 12) * 3, normal(2, 3, 12, 8, seed=3)
    scores, values = calibrated(x), calibrated(v)
    softmax = LogIntSoftmax("attn", 4, 0, scores)
    product = ShiftMatMul("attn", softmax, values)
    powers = softmax(scores(x))
    assert bool(((powers == 0) | (torch.frexp(powers).mantissa == 0.5)).all())
    assert float(powers.max()) <= 1.0
    got = product(powers, values(v))
    expected = powers.double() @ values(v).double()
    assert torch.allclose(got.double(), expected, rtol=1e-6, atol=1e-6)
    scores.off()
    assert torch.equal(softmax(x), torch.softmax(x, -1))
    assert torch.equal(product(x, v), x @ v)


def test_softmax_passes_the_float_gradient() -> None:
    x = normal(4, 12) * 3
    scores = calibrated(x)
    softmax = LogIntSoftmax("attn", 8, 0, scores)
    weight = normal(4, 12, seed=4)
    ours, exact = (scores(x).clone().requires_grad_() for _ in range(2))
    (softmax(ours) * weight).sum().backward()
    (torch.softmax(exact, -1) * weight).sum().backward()
    assert ours.grad is not None
    assert torch.allclose(ours.grad, exact.grad, rtol=1e-5, atol=1e-7)


def test_a_copy_follows_its_own_quantizers() -> None:
    x = normal(4, 12) * 3
    model = nn.ModuleDict({"q": calibrated(x)})
    model["softmax"] = LogIntSoftmax("attn", 8, 0, model["q"])  # type: ignore[arg-type]
    twin = copy.deepcopy(model)
    twin["q"].off()  # type: ignore[operator]
    assert torch.equal(twin["softmax"](x), torch.softmax(x, -1))
    assert not torch.equal(model["softmax"](model["q"](x)), torch.softmax(x, -1))


def test_fraction_bits_remove_the_error_of_ln_2() -> None:
    """ln 2 is 3.47 steps of 0.2 and is rounded up to 4, so that i-exp computes exp(0.87 x)."""
    x = torch.linspace(-20, 0, 40).reshape(1, -1)
    scores = calibrated(x)
    scores.scale = torch.tensor(0.2)
    exact = -torch.log2(torch.softmax(scores(x), -1))
    errors = []
    for fraction_bits in (0, 4):
        codes = -torch.log2(LogIntSoftmax("attn", 8, fraction_bits, scores)(scores(x)))
        errors.append(float((codes - exact).abs().max()))
    assert errors[0] > 2.0
    assert errors[1] < 0.85, "0.585 of rounding to powers of two, and 1.3 % of 20 halvings"
