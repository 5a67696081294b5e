import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from quant.kernels import quantize_codes
from quant.qparams import QParams, qparams_from_range
from quant.saturation import LIMIT, Pairing, pair_safe_scale
from quant.spec import QuantSpec

WEIGHT = QuantSpec.weight()


def weight_qparams(weight: Tensor) -> QParams:
    rows = weight.flatten(1)
    return qparams_from_range(rows.amin(1), rows.amax(1), WEIGHT)


def guarded(
    weight: Tensor, low: Tensor, high: Tensor, activation: QParams, pairing=Pairing.MATMUL
) -> QParams:
    q = weight_qparams(weight)
    scale = pair_safe_scale(weight, q, low, high, activation, pairing)
    return QParams(scale, q.zero_point, q.qmin, q.qmax, q.axis)


def code_choices(low: float, high: float, activation: QParams) -> range:
    """Every code from 1.25 times the lower to 1.25 times the upper bound, as the module promises."""
    scale, zero = float(activation.scale), int(activation.zero_point)
    first, last = (int(np.clip(round(1.25 * v / scale) + zero, 0, 255)) for v in (min(low, 0), max(high, 0)))
    return range(first, last + 1)


def worst_by_enumeration(codes: Tensor, choices: list[range]) -> list[int]:
    """The largest |a w + a' w'| of each row over neighbouring columns and all pairs of activation codes."""
    worst = []
    for row in codes.tolist():
        pairs = [(2 * i, 2 * i + 1) for i in range(len(row) // 2)]
        sums = (
            abs(a * row[i] + b * row[j])
            for i, j in pairs
            for a, b in itertools.product(choices[i], choices[j])
        )
        worst.append(max(sums))
    return worst


@pytest.mark.parametrize("seed", range(4))
def test_no_pair_of_codes_overflows_and_safe_rows_keep_their_scale(seed):
    torch.manual_seed(seed)
    weight = torch.randn(24, 4)
    weight[::2, 1] = weight[::2, 0]  # large weights side by side
    low, high = torch.tensor([-1.0, -0.2, 0.3, -1.0]), torch.tensor([1.5, 1.2, 1.5, -0.1])
    activation = qparams_from_range(torch.tensor(-1.0), torch.tensor(1.5), QuantSpec.activation())
    choices = [code_choices(float(a), float(b), activation) for a, b in zip(low, high, strict=True)]
    before, after = weight_qparams(weight), guarded(weight, low, high, activation)
    could = torch.tensor(worst_by_enumeration(quantize_codes(weight, before), choices)) > LIMIT
    assert could.any()
    assert not could.all()
    assert torch.equal(after.scale[~could], before.scale[~could])
    assert bool((after.scale[could] > before.scale[could]).all())
    assert max(worst_by_enumeration(quantize_codes(weight, after), choices)) <= LIMIT


def sat16_pairs(a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """VPMADDUBSW on [N, K] × [O, K]: exact and saturated sums of neighbouring products, [N, O, K / 2]."""
    exact = (a[:, None].astype(np.int64) * w[None].astype(np.int64)).reshape(len(a), len(w), -1, 2).sum(-1)
    return exact, exact.clip(-32768, 32767)


@pytest.mark.parametrize("signed", [False, True])
def test_random_activations_in_the_calibrated_range_do_not_saturate(signed):
    torch.manual_seed(0)
    weight = torch.randn(64, 96).sign() * torch.rand(64, 96).sqrt()
    x = torch.rand(256, 96) * torch.linspace(0.2, 6.0, 96) - 0.15
    spec = QuantSpec.activation(signed=signed)
    activation = qparams_from_range(x.min(), x.max(), spec)
    codes = (quantize_codes(x, activation) + (128 if signed else 0)).numpy()
    assert codes.min() >= 0
    unguarded = quantize_codes(weight, weight_qparams(weight)).numpy()
    exact, saturated = sat16_pairs(codes, unguarded)
    assert (exact != saturated).any()
    safe = guarded(weight, x.amin(0), x.amax(0), activation)
    exact, saturated = sat16_pairs(codes, quantize_codes(weight, safe).numpy())
    assert np.array_equal(exact, saturated)


def convolution_pairs(codes: Tensor) -> Tensor:
    """[O, pairs, 2] of ONNX Runtime's QLinearConv: K with channels innermost."""
    rows = codes.permute(0, 2, 3, 1).reshape(len(codes), -1)
    return rows[:, : rows.shape[1] // 2 * 2].reshape(len(codes), -1, 2)


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (3, 1), (6, 2)])
def test_convolutions_pair_channels_innermost_and_know_their_group(channels, groups):
    torch.manual_seed(1)
    weight = torch.randn(16, channels // groups, 3, 3).sign() * (0.6 + 0.4 * torch.rand(16, 1, 3, 3))
    high = torch.linspace(0.1, 4.0, channels)
    activation = qparams_from_range(torch.tensor(0.0), torch.tensor(4.0), QuantSpec.activation())
    safe = guarded(weight, torch.zeros(channels), high, activation, Pairing.CONV)
    most = (high * 1.25 / activation.scale).round().clamp(max=255)  # zero point 0: the other end is code 0
    per_output = most.reshape(groups, -1).repeat_interleave(16 // groups, 0)[:, :, None, None]
    for sign in (1, -1):
        pairs = convolution_pairs((sign * quantize_codes(weight, safe)).clamp(min=0) * per_output)
        assert int(pairs.sum(-1).max()) <= LIMIT
    before = convolution_pairs(quantize_codes(weight, weight_qparams(weight)).clamp(min=0) * per_output)
    assert int(before.sum(-1).max()) > LIMIT
    quiet = [o for o in range(16) if torch.equal(safe.scale[o], weight_qparams(weight).scale[o])]
    if groups == 2:  # the first group's activations are too small to overflow
        assert set(range(8)) <= set(quiet)


def test_a_scale_for_the_whole_tensor_grows_as_a_whole():
    weight = torch.full((2, 4), 1.0)
    q = qparams_from_range(weight.min(), weight.max(), QuantSpec.weight(granularity="per_tensor"))
    activation = qparams_from_range(torch.tensor(0.0), torch.tensor(1.0), QuantSpec.activation())
    scale = pair_safe_scale(weight, q, torch.zeros(4), torch.ones(4), activation, Pairing.MATMUL)
    assert scale.shape == q.scale.shape
    code = round(1.0 / float(scale))
    assert 2 * 255 * code <= LIMIT < 2 * 255 * (code + 2)
