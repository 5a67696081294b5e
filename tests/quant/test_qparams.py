import numpy as np
import pytest
import torch

from quant.errors import BadInput
from quant.qparams import MIN_SCALE, qparams_from_range
from quant.spec import QuantSpec

RANGES = [(-1.0, 2.0), (0.5, 3.0), (-4.0, -1.0), (-0.17, 213.0), (-1e-3, 1e-3), (0.0, 1.0)]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bounds", RANGES)
def test_affine_follows_the_formula(bounds: tuple[float, float], signed: bool, bits: int) -> None:
    spec = QuantSpec(bits=bits, signed=signed)
    q = qparams_from_range(torch.tensor(bounds[0]), torch.tensor(bounds[1]), spec)
    low, high = min(np.float64(np.float32(bounds[0])), 0.0), max(np.float64(np.float32(bounds[1])), 0.0)
    scale = np.float32((high - low) / (2**bits - 1))
    assert q.scale.item() == scale
    assert q.zero_point.item() == np.clip(np.round(spec.qmin - low / np.float64(scale)), spec.qmin, spec.qmax)
    assert q.scale.dtype == torch.float32
    assert q.zero_point.dtype == torch.int32


@pytest.mark.parametrize(("bits", "top"), [(2, 1), (4, 7), (8, 127)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bounds", RANGES)
def test_symmetric_divides_by_the_top_code(
    bounds: tuple[float, float], signed: bool, bits: int, top: int
) -> None:
    spec = QuantSpec(bits=bits, signed=signed, symmetric=True)
    q = qparams_from_range(torch.tensor(bounds[0]), torch.tensor(bounds[1]), spec)
    amax = max(abs(np.float32(b)) for b in bounds)
    assert q.scale.item() == np.float32(np.float64(amax) / top)
    assert q.zero_point.item() == (0 if signed else top + 1)


def test_fp8_reaches_the_range_with_its_largest_number() -> None:
    spec = QuantSpec(scheme="fp8_e4m3", signed=True, symmetric=True, granularity="per_channel")
    q = qparams_from_range(torch.tensor([-0.5, -448.0]), torch.tensor([1.0, 0.1]), spec)
    assert q.scale.tolist() == [float(np.float32(1 / 448)), 1.0]
    assert q.zero_point.tolist() == [0, 0]
    assert (q.scheme, q.axis) == ("fp8_e4m3", 0)


def test_agrees_with_the_pytorch_observers() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    theirs = torch.ao.quantization.MinMaxObserver(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
    theirs(x)
    scale, zero_point = theirs.calculate_qparams()
    ours = qparams_from_range(x.min(), x.max(), QuantSpec.activation())
    torch.testing.assert_close(ours.scale, scale[0], rtol=1e-6, atol=0.0)  # theirs computes in float32
    assert ours.zero_point.item() == zero_point.item()


def test_dead_channel_borrows_the_largest_scale() -> None:
    amax = torch.tensor([0.0, 1.27, 12.7, 0.0])
    q = qparams_from_range(-amax, amax, QuantSpec.weight())
    torch.testing.assert_close(q.scale, torch.tensor([0.1, 0.01, 0.1, 0.1]))


@pytest.mark.parametrize("spec", [QuantSpec.activation(), QuantSpec.weight(), QuantSpec(scheme="log2")])
def test_all_dead_has_a_plain_scale(spec: QuantSpec) -> None:
    q = qparams_from_range(torch.zeros(3), torch.zeros(3), spec)
    assert bool((q.scale > 1e-3).all())


def test_tiny_range_keeps_a_finite_reciprocal() -> None:
    q = qparams_from_range(torch.tensor(-1e-38), torch.tensor(1e-38), QuantSpec.activation())
    assert q.scale.item() == MIN_SCALE
    assert torch.isfinite(1 / q.scale)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_bounds_that_are_not_finite(bad: float) -> None:
    with pytest.raises(BadInput, match=r"'blocks\.1\.input' holds NaN or infinity"):
        qparams_from_range(torch.tensor(0.0), torch.tensor(bad), QuantSpec.activation(), "blocks.1.input")


def test_refuses_swapped_bounds_and_negative_log2() -> None:
    with pytest.raises(BadInput, match="above its upper"):
        qparams_from_range(torch.tensor(1.0), torch.tensor(0.0), QuantSpec.activation())
    with pytest.raises(BadInput, match="needs values >= 0"):
        qparams_from_range(torch.tensor(-1.0), torch.tensor(1.0), QuantSpec(scheme="log2"))
