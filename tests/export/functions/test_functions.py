"""The ONNX functions give the very integers of the torch code, which plain references check elsewhere."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from export.passes.functions import DOMAIN, function_proto
from quant.integer.layer_norm import integer_layer_norm, layer_norm_constants
from quant.integer.softmax import log_int_softmax, powers_of_two, shift_matmul, softmax_constants
from quant.kernels import dequantize, fake_quantize
from quant.qparams import QParams, qparams_from_range
from quant.spec import QuantSpec

MODES = [Optimization.OFF, Optimization.ALL]


def call(name: str, mode: Optimization, *inputs: Tensor, opset: int = 20) -> NDArray[Any]:
    """Run the function alone in ONNX Runtime, the first input of any shape, the others constant."""
    names = [f"i{index}" for index in range(len(inputs))]
    arrays = [np.asarray(value.numpy()) for value in inputs]
    types = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in arrays]
    graph = helper.make_graph(
        [helper.make_node(name, names, ["y"], domain=DOMAIN)],
        "g",
        [helper.make_tensor_value_info(names[0], types[0], arrays[0].shape)],
        [helper.make_tensor_value_info("y", types[0], [f"d{axis}" for axis in range(arrays[0].ndim)])],
        [onnx.numpy_helper.from_array(a, n) for a, n in zip(arrays[1:], names[1:], strict=True)],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(
        graph, opset_imports=imports, functions=[function_proto(name, opset)], ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    session = build_session(model.SerializeToString(), SessionSettings(optimization=mode))
    return np.asarray(session.run(None, {names[0]: arrays[0]})[0])


def norm_cases() -> dict[str, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Codes [2, 9, 40], alpha, gamma, beta."""
    generator = torch.Generator().manual_seed(5)
    codes = torch.randint(-128, 128, (2, 9, 40), generator=generator)
    alpha = torch.randint(0, 9, (40,), generator=generator)
    alpha[0] = 0
    gamma, beta = torch.randn(2, 40, generator=generator)
    signs = torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0)
    outlier = codes.clone()
    outlier[..., 3] = 127
    high = alpha.clone()
    high[3] = 12
    return {
        "random": (codes, alpha, gamma, beta),
        "constant rows": (torch.full_like(codes, 55), torch.zeros_like(alpha), gamma, beta),
        "zero rows": (torch.zeros_like(codes), alpha, gamma, beta),
        "nearly constant rows": (55 + (codes > 100).long(), torch.zeros_like(alpha), gamma, beta),
        "negative gamma": (codes, alpha, -gamma.abs(), beta),
        "zero gamma": (codes, alpha, torch.zeros_like(gamma), beta),
        "tiny and huge gamma": (codes, alpha, 10.0 ** torch.linspace(-12, 4, 40) * signs, beta),
        "a massive channel": (outlier, high, gamma, beta),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", norm_cases())
def test_layer_norm(case: str, mode: Optimization) -> None:
    codes, alpha, gamma, beta = norm_cases()[case]
    scale = torch.ldexp(torch.full((40,), 0.0075), alpha)
    c = layer_norm_constants(scale, gamma, beta, 1e-6, torch.tensor(0.031))
    x = codes * scale
    got = call(
        "IntegerLayerNorm",
        mode,
        *(x, c.scale, c.factor, c.gain, c.slope, c.offset, c.extra, c.ceiling, c.output_scale),
    )
    expected = integer_layer_norm(x, c)
    np.testing.assert_array_equal(got, (expected.float() * c.output_scale).numpy())
    assert len(expected.unique()) > 1 or case in ("zero rows",)


def score_cases() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(6)
    random = torch.randint(-128, 128, (2, 3, 20, 40), generator=generator)
    dominant = torch.full((1, 1, 2, 40), -128)
    dominant[..., 7] = 127
    return {
        "random": random,
        "narrow": random // 16,
        "one dominant score": dominant,
        "all equal": torch.full((1, 1, 2, 40), -7),
        "nearly all equal": 126 + (random > 0).long(),
        "one key": torch.tensor([[5], [-5]]),
        "a ramp": torch.arange(-128, 128).reshape(1, -1),
    }


def softmax_inputs(scale: float, bits: int) -> tuple[Any, list[Tensor]]:
    c = softmax_constants(torch.tensor(scale).item(), bits)
    integers = [torch.tensor(v) for v in (c.ln2, c.linear, c.constant, c.shift)]
    last = min(1 << bits, 63)
    return c, [torch.tensor(scale), *integers, powers_of_two(torch.arange(last + 1), bits)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("case", score_cases())
def test_softmax(case: str, bits: int, mode: Optimization) -> None:
    for scale in (2.0**-12, 0.0437, 0.33):
        constants, inputs = softmax_inputs(scale, bits)
        x = score_cases()[case] * torch.tensor(scale)
        got = call("LogIntSoftmax", mode, x, *inputs)
        np.testing.assert_array_equal(got, powers_of_two(log_int_softmax(x, constants), bits).numpy())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [4, 8])
def test_product(bits: int, mode: Optimization) -> None:
    constants, _ = softmax_inputs(0.09, bits)
    powers = powers_of_two(log_int_softmax(score_cases()["random"] * 0.09, constants), bits)
    codes = torch.randint(-255, 256, (2, 3, 40, 16), generator=torch.Generator().manual_seed(7))
    scale = torch.tensor(0.0173)
    got = call("ShiftMatMul", mode, powers, codes * scale, scale)
    exact = shift_matmul(powers, codes)
    np.testing.assert_array_equal(got, (exact * scale.double()).float().numpy())


@pytest.mark.parametrize("mode", MODES)
def test_codes_per_channel(mode: Optimization) -> None:
    x = torch.randn(64, 50, 24, generator=torch.Generator().manual_seed(8)) * 3
    scale = torch.ldexp(torch.full((24,), 0.0123), torch.arange(24) // 4)
    x[::8, :, 5] *= 300.0
    for wide in ((), (5,)):
        qparams = QParams(scale, torch.full((24,), 117, dtype=torch.int32), 0, 255, axis=-1, wide=wide)
        limits = [limit.float() for limit in qparams.limits()]
        got = call("ChannelQuantizeDequantize", mode, x, 1.0 / scale, scale, torch.tensor(117.0), *limits)
        np.testing.assert_array_equal(got, fake_quantize(x, qparams).numpy())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [4, 8])
def test_powers_of_two(bits: int, mode: Optimization) -> None:
    """Against PyTorch's own codes; only where the logarithm is halfway between two may they differ."""
    x = torch.softmax(4 * torch.randn(3, 40, 197, generator=torch.Generator().manual_seed(9)), dim=-1)
    x[0, 0, :5] = torch.tensor([0.0, 1.0, 2.0, 1e-30, 1e-42])
    qparams = qparams_from_range(torch.tensor(0.0), torch.tensor(0.9), QuantSpec(bits=bits, scheme="log2"))
    codes = torch.arange(qparams.qmax + 1, dtype=torch.int32)
    got = call("Log2QuantizeDequantize", mode, x, qparams.scale, dequantize(codes, qparams))
    exponent = -torch.log2(x.double() / 0.9)
    border = ((exponent - exponent.floor() - 0.5).abs() < 1e-4).numpy()  # float32's log errs by some 1e-6
    expected = fake_quantize(x, qparams).numpy()
    np.testing.assert_array_equal(got[~border], expected[~border])
    assert border.mean() < 1e-3
    assert len(np.unique(got)) >= 12  # codes that this softmax reaches


@pytest.mark.parametrize("opset", [20, 23])
def test_every_opset_of_the_export(opset: int) -> None:
    constants, inputs = softmax_inputs(0.0437, 4)
    x = score_cases()["random"] * torch.tensor(0.0437)
    got = call("LogIntSoftmax", Optimization.ALL, x, *inputs, opset=opset)
    np.testing.assert_array_equal(got, powers_of_two(log_int_softmax(x, constants), 4).numpy())
