from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quant.errors import BadInput
from quant.kernels import dequantize, fake_quantize, quantize_codes
from quant.qparams import QParams, qparams_from_range
from quant.spec import QuantSpec


def hard_values(scale: float, n: int = 4000) -> Tensor:
    """Ordinary values, exact and nearly exact ties, zeros and extremes of float32."""
    generator = torch.Generator().manual_seed(0)
    ties = (torch.arange(-300, 300) + 0.5) * scale
    extremes = torch.tensor([0.0, -0.0, 1e-45, 1e10, -1e10, 3e38, -3e38])
    ordinary = torch.randn(n, generator=generator) * 100 * scale
    return torch.cat([ordinary, ties, ties * (1 + 6e-8), ties * (1 - 6e-8), extremes])


@pytest.mark.parametrize("scale", [0.1, 1 / 255, 0.0123, 3.3e-5, 2.0**-40, 0.5])
@pytest.mark.parametrize(
    ("zero_point", "qmin", "qmax"), [(128, 0, 255), (0, -127, 127), (37, 0, 255), (3, 0, 15)]
)
def test_per_tensor_is_the_torch_operator(scale: float, zero_point: int, qmin: int, qmax: int) -> None:
    x = hard_values(scale)
    q = QParams(torch.tensor(scale), torch.tensor(zero_point, dtype=torch.int32), qmin, qmax)
    expected = torch.fake_quantize_per_tensor_affine(x, q.scale, q.zero_point, qmin, qmax)
    assert torch.equal(fake_quantize(x, q), expected)
    codes = quantize_codes(x, q)
    assert codes.dtype == torch.int32
    assert torch.equal(dequantize(codes, q), expected)
    assert (codes.min().item(), codes.max().item()) == (qmin, qmax)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_per_channel_is_the_torch_operator(axis: int) -> None:
    x = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0))
    amax = x.movedim(axis, 0).flatten(1).abs().amax(dim=1)
    q = qparams_from_range(-amax, amax, QuantSpec.weight(axis=axis))
    expected = torch.fake_quantize_per_channel_affine(x, q.scale, q.zero_point, axis % 3, -127, 127)
    assert torch.equal(fake_quantize(x, q), expected)
    assert torch.equal(dequantize(quantize_codes(x, q), q), expected)


def test_per_channel_saturates_where_the_torch_operator_overflows() -> None:
    x = hard_values(0.1).repeat(2, 1)
    q = QParams(torch.tensor([0.1, 0.02]), torch.zeros(2, dtype=torch.int32), -127, 127, axis=0)
    assert torch.equal(fake_quantize(x, q), dequantize(quantize_codes(x, q), q))
    assert fake_quantize(x, q).max().item() == pytest.approx(12.7)
    assert fake_quantize(x, q)[:, -2:].sign().tolist() == [[1.0, -1.0]] * 2


def test_per_group_quantizes_each_run_of_the_last_axis_alone() -> None:
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    amax = x.reshape(6, 4, 16).abs().amax(dim=2)
    q = qparams_from_range(-amax, amax, QuantSpec.weight(4, granularity="per_group", group_size=16))
    result = fake_quantize(x, q)
    for row in range(6):
        for group in range(4):
            part = slice(16 * group, 16 * group + 16)
            alone = torch.fake_quantize_per_tensor_affine(
                x[row, part], q.scale[row, group], q.zero_point[row, group], -7, 7
            )
            assert torch.equal(result[row, part], alone)
    assert torch.equal(dequantize(quantize_codes(x, q), q), result)


def test_symmetric_unsigned_is_symmetric_signed_with_shifted_codes() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    signed, unsigned = (
        qparams_from_range(x.min(), x.max(), QuantSpec(signed=s, symmetric=True)) for s in (True, False)
    )
    assert torch.equal(quantize_codes(x, signed) + 128, quantize_codes(x, unsigned))
    assert torch.equal(fake_quantize(x, signed), fake_quantize(x, unsigned))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_log2_follows_the_formula(bits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.softmax(4 * torch.randn(50, 197, generator=generator), dim=1)
    q = qparams_from_range(x.min(), x.max(), QuantSpec(bits=bits, scheme="log2"))
    scale = q.scale.item()
    exponent = -np.log2(x.double().numpy() / scale)
    off_border = np.abs(exponent - np.floor(exponent) - 0.5) > 1e-5  # float32 log2 errs by about 1e-6
    codes = np.clip(np.round(exponent), 0, 2**bits - 1)
    assert off_border.mean() > 0.99
    assert np.array_equal(quantize_codes(x, q).numpy()[off_border], codes[off_border])
    expected = (scale * 2.0**-codes)[off_border]
    np.testing.assert_allclose(fake_quantize(x, q).numpy()[off_border], expected, rtol=1e-6)
    assert torch.equal(dequantize(quantize_codes(x, q), q), fake_quantize(x, q))


def test_log2_of_zero_is_the_last_code() -> None:
    q = qparams_from_range(torch.tensor(0.0), torch.tensor(1.0), QuantSpec(bits=4, scheme="log2"))
    x = torch.tensor([0.0, -1.0, 1.0, 5.0, 0.26])
    assert quantize_codes(x, q).tolist() == [15, 15, 0, 0, 2]
    assert fake_quantize(x, q).tolist() == [2.0**-15, 2.0**-15, 1.0, 1.0, 0.25]


@pytest.mark.parametrize(
    ("spec", "scale_shape"),
    [
        (QuantSpec.activation(4), ()),
        (QuantSpec.weight(4), (4,)),
        (QuantSpec.weight(4, granularity="per_group", group_size=2), (4, 3)),
    ],
)
def test_gradient_passes_straight_through_unless_clipped(spec: QuantSpec, scale_shape: Any) -> None:
    q = qparams_from_range(torch.full(scale_shape, -1.0), torch.full(scale_shape, 1.0), spec)
    x = torch.linspace(-3, 3, 24).reshape(4, 6).requires_grad_()
    weights = torch.arange(1.0, 25.0).reshape(4, 6)
    (fake_quantize(x, q) * weights).sum().backward()
    inside = (x.detach().abs() <= 1.0).float()
    assert x.grad is not None
    assert torch.equal(x.grad, weights * inside)


def test_log2_gradient_passes_straight_through_unless_clipped() -> None:
    q = qparams_from_range(torch.tensor(0.0), torch.tensor(1.0), QuantSpec(bits=2, scheme="log2"))
    x = torch.tensor([0.0, 0.01, 0.12, 0.5, 1.2, 3.0], requires_grad=True)
    fake_quantize(x, q).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]


def e4m3_by_definition() -> tuple[np.ndarray, np.ndarray]:
    """Every finite number of E4M3 and its bits: ``1.m * 2^(e - 7)``, without the leading one for e = 0."""
    bits = np.array([b for b in range(256) if b & 127 != 127])
    exponent, mantissa = (bits >> 3) & 15, (bits & 7) / 8
    size = np.where(exponent > 0, (1 + mantissa) * 2.0 ** (exponent - 7), mantissa * 2.0**-6)
    return np.where(bits & 128, -size, size), bits


def test_fp8_rounds_to_the_nearest_number_of_e4m3_and_ties_to_even() -> None:
    """Against a search over all its numbers in float64; 2^-7 divides exactly, so ties are true ties."""
    numbers, bits = e4m3_by_definition()
    half_way = (np.sort(numbers)[1:] + np.sort(numbers)[:-1]) / 2
    scale = 2.0**-7
    ordinary = torch.randn(20000, generator=torch.Generator().manual_seed(0)).numpy() * 100
    beyond = np.array([448.0, 449.0, 464.0, 480.0, 1e9, -1e9, 3e38])
    x = torch.from_numpy(np.concatenate([ordinary, numbers, half_way, beyond]).astype(np.float32)) * scale
    q = QParams(torch.tensor(scale), torch.tensor(0, dtype=torch.int32), -448, 448, scheme="fp8_e4m3")
    codes = quantize_codes(x, q).numpy()
    distance = np.abs(numbers[None] - np.clip(x.double().numpy() / scale, -448, 448)[:, None])
    nearest = distance == distance.min(axis=1, keepdims=True)
    even = nearest & (bits % 2 == 0)[None]
    allowed = np.where(even.any(axis=1, keepdims=True), even, nearest)
    assert (allowed & (bits[None] == codes[:, None])).any(axis=1).all()
    expected = numbers[allowed.argmax(axis=1)] * scale
    np.testing.assert_array_equal(fake_quantize(x, q).numpy(), expected.astype(np.float32))
    assert torch.equal(dequantize(quantize_codes(x, q), q), fake_quantize(x, q))


def test_fp8_per_channel_and_its_gradient() -> None:
    q = QParams(torch.tensor([1.0, 0.01]), torch.zeros(2, dtype=torch.int32), -448, 448, 0, scheme="fp8_e4m3")
    x = torch.tensor([[17.0, 500.0], [0.17, -5.0]], requires_grad=True)
    result = fake_quantize(x, q)
    torch.testing.assert_close(result, torch.tensor([[16.0, 448.0], [0.16, -4.48]]), rtol=1e-6, atol=0.0)
    result.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("q", "shape"),
    [
        (QParams(torch.ones(5), torch.zeros(5, dtype=torch.int32), 0, 255, axis=0), (4, 5)),
        (QParams(torch.ones(5), torch.zeros(5, dtype=torch.int32), 0, 255, axis=3), (4, 5)),
        (QParams(torch.ones(4, 2), torch.zeros(4, 2, dtype=torch.int32), 0, 15, group_size=4), (4, 6)),
    ],
)
def test_refuses_a_tensor_of_another_layout(q: QParams, shape: tuple[int, ...]) -> None:
    for function in (fake_quantize, quantize_codes, dequantize):
        with pytest.raises(BadInput, match=r"'head\.weight' of shape"):
            function(torch.zeros(shape), q, "head.weight")
