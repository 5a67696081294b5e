"""The unsigned conversion against signed int64 arithmetic, exactly, and against a float layer."""

import pytest
import torch
from torch import Tensor

from quant.energy.unsigned import run_unsigned, to_unsigned, unsigned_product
from quant.errors import BadInput, Unsupported
from quant.kernels import dequantize, quantize_codes
from quant.qparams import qparams_from_range
from quant.spec import QuantSpec


def draw(low: int, high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("zero_point", [0, 37, 255])
@pytest.mark.parametrize("per_channel", [False, True])
def test_it_equals_the_signed_layer(zero_point: int, per_channel: bool) -> None:
    codes, q = draw(-127, 127, 48, 64), draw(0, 255, 5, 7, 64, seed=1)
    weight_scale = torch.rand(48) * 0.01 + 0.001 if per_channel else torch.tensor(0.01)
    input_scale, bias = torch.tensor(0.02), torch.randn(48)
    layer = to_unsigned(codes, zero_point, input_scale, weight_scale, bias)
    scale = input_scale.double() * weight_scale.double()
    signed = (q - zero_point) @ codes.T + torch.round(bias / scale).to(torch.int64)
    result, output = run_unsigned(layer, q)
    assert torch.equal(result, signed)
    torch.testing.assert_close(output, (signed * scale).float(), rtol=1e-6, atol=0)  # one rounding to float32


def test_the_halves_are_disjoint_and_not_negative() -> None:
    layer = to_unsigned(draw(-127, 127, 16, 32), 5, torch.tensor(1.0), torch.tensor(1.0), torch.randn(16))
    assert layer.positive.dtype == layer.negative.dtype == torch.uint8
    assert not (layer.positive.bool() & layer.negative.bool()).any()
    assert min(layer.positive_bias.min(), layer.negative_bias.min()) >= 0
    assert not (layer.positive_bias * layer.negative_bias).any()


def test_a_quantized_layer_gives_what_its_dequantized_operands_give() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 32, generator=generator) for n in (20, 12))
    bias = torch.randn(12, generator=generator)
    input_grid = qparams_from_range(*x.aminmax(), QuantSpec.activation())
    weight_grid = qparams_from_range(weight.amin(1), weight.amax(1), QuantSpec.weight())
    q, codes = quantize_codes(x, input_grid), quantize_codes(weight, weight_grid)
    layer = to_unsigned(codes, int(input_grid.zero_point), input_grid.scale, weight_grid.scale, bias)
    _, output = run_unsigned(layer, q)
    exact = dequantize(q, input_grid).double() @ dequantize(codes, weight_grid).double().T + bias.double()
    half_step = float(layer.scale.max()) / 2  # the bias is rounded to an integer
    torch.testing.assert_close(output.double(), exact, rtol=1e-6, atol=half_step)


@pytest.mark.parametrize(("z_a", "z_b"), [(0, 0), (128, 3), (255, 255)])
def test_a_product_of_activations_equals_the_signed_one(z_a: int, z_b: int) -> None:
    a, b = draw(0, 255, 2, 3, 9, 16), draw(0, 255, 2, 3, 16, 9, seed=1)
    assert torch.equal(unsigned_product(a, b, z_a, z_b), (a - z_a) @ (b - z_b))


def test_the_largest_sums_fit_or_are_refused() -> None:
    one, length = torch.tensor(1.0), (2**32 - 1) // (255 * 255)
    codes, q = torch.full((1, length), 255), torch.full((1, length), 255)
    result, _ = run_unsigned(to_unsigned(codes, 0, one, one), q)
    assert int(result) == length * 255 * 255
    with pytest.raises(Unsupported, match="32 unsigned bits"):
        to_unsigned(torch.full((1, length + 1), 255), 0, one, one)
    with pytest.raises(Unsupported, match="32 unsigned bits"):
        unsigned_product(draw(0, 1, 1, length), draw(0, 1, length, 1), 0, 0)


def test_wrong_operands_are_refused() -> None:
    one, codes = torch.tensor(1.0), draw(-3, 3, 4, 8)
    with pytest.raises(BadInput, match="integers"):
        to_unsigned(codes.float(), 0, one, one)
    with pytest.raises(BadInput, match="zero point"):
        to_unsigned(codes, -1, one, one)
    with pytest.raises(BadInput, match="scales"):
        to_unsigned(codes, 0, one, torch.ones(3))
    with pytest.raises(BadInput, match=r"\[0, 15\]"):
        run_unsigned(to_unsigned(codes, 0, one, one, highest=15), torch.full((1, 8), 16))
